"""FFA-LoRA: A is frozen and shared, only B is averaged (Sun et al., arXiv 2403.12313).

With a shared A the mean of the products is the product of the mean: ``sum w_k B_k A = (sum w_k
B_k) A``. So this rule is exact, whatever the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.errors import AdapterError
from server.aggregation.tensor_ops import shares, weighted_mean


def ffa(
    adapters: Mapping[str, Adapter], weights: Mapping[str, float], previous: Adapter
) -> dict[str, Matrix]:
    """Average the sites' B and keep A as it is.

    Args:
        adapters: the sites' adapters; each is read once.
        weights: the weight of each site that counts.
        previous: the adapter at the start of the round; its A is the shared one.

    Returns:
        All matrices in float32: A bit for bit that of `previous`, B averaged.

    Raises:
        AdapterError: a site's A differs from the shared one.
    """
    averaged = weighted_mean(
        (share, dict(_only_b(site, adapters[site], previous)))
        for site, share in shares(weights).items()
    )
    return {**previous.tensors, **averaged}


def _only_b(site: str, adapter: Adapter, previous: Adapter) -> Iterator[tuple[str, Matrix]]:
    for module in previous.modules:
        a, b = adapter.pair(module)
        # Bytes, since 0.0 and -0.0 compare equal.
        if a.tobytes() != previous.pair(module)[0].tobytes():
            raise AdapterError(
                f"site {site!r} sent another A for {module} than the run's; set lora.train = b, "
                "or aggregation.rule = fedavg or svd, which average A too"
            )
        yield tensor_name(module, "B"), b
