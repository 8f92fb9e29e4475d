"""FLoRA: exact mean by stacking the sites' pairs (Wang et al., arXiv 2409.05976).

``sum_k w_k s_k B_k A_k`` is the product of all pairs stacked. It is added to the adapter's residual
(see `common.adapter.residual`), and every site starts the next round with a fresh pair: B zero, A
drawn anew. Sites may have different ranks. The residual grows up to a maximum rank; only what
exceeds that rank is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.adapter.residual import residual_from_sums
from server.aggregation.tensor_ops import product_sums, shares


def flora(
    adapters: Mapping[str, Adapter],
    weights: Mapping[str, float],
    previous: Adapter,
    residual: Adapter | None,
    max_rank: int,
) -> tuple[dict[str, Matrix], Adapter, float]:
    """Add the sites' mean update to the residual and start a fresh pair.

    Args:
        adapters: the sites' adapters, of any ranks; each is read once per block of layers.
        weights: the weight of each included site.
        previous: the adapter at the start of the round.
        residual: the residual at the start of the round.
        max_rank: the largest rank of the new residual.

    Returns:
        The fresh matrices in float32, the new residual, and the share of its squared norm lost to
        `max_rank`.
    """
    others = [(1.0, residual)] if residual is not None else []
    sums = product_sums(adapters, shares(weights), previous, others)
    new_residual, cut = residual_from_sums(sums, previous, max_rank)
    return fresh_pairs(previous), new_residual, cut


def fresh_pairs(previous: Adapter) -> dict[str, Matrix]:
    """Return a fresh pair per layer: A redrawn with the previous A's root mean square, B zero.

    A is uniform, as in PEFT. The draw is seeded by the previous A alone: each round trains in new
    directions, and a resumed run in the same ones.
    """
    seed = blake2b(digest_size=16)
    for module in previous.modules:
        seed.update(previous.pair(module)[0].tobytes())
    random = np.random.default_rng(int.from_bytes(seed.digest(), "big"))
    tensors: dict[str, Matrix] = {}
    for module in previous.modules:
        a, b = previous.pair(module)
        # A uniform draw from -c to c has the root mean square c / sqrt(3).
        bound = np.sqrt(3 * np.mean(np.square(a, dtype=np.float64))) or 1 / np.sqrt(a.shape[1])
        drawn = bound * random.uniform(-1.0, 1.0, a.shape)
        tensors[tensor_name(module, "A")] = drawn.astype(np.float32)
        tensors[tensor_name(module, "B")] = np.zeros_like(b)
    return tensors
