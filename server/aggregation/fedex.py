"""FedEx-LoRA: FedAvg with its error in a low-rank residual (Singhal et al., arXiv 2410.09432).

The product of mean B and mean A differs from the mean of the products by ``sum_k w_k s B_k A_k -
s B_mean A_mean``. The paper adds this error to the frozen weights; here it is added to the
adapter's residual (see `common.adapter.residual`), so that the backbone and its digest stay
unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from common.adapter.adapter import Adapter, Matrix
from common.adapter.residual import residual_from_sums
from server.aggregation.fedavg import fedavg
from server.aggregation.tensor_ops import product_sums, shares


def fedex(
    adapters: Mapping[str, Adapter],
    weights: Mapping[str, float],
    previous: Adapter,
    residual: Adapter | None,
    max_rank: int,
) -> tuple[dict[str, Matrix], Adapter, float]:
    """Average A and B separately and add the error of their product to the residual.

    Args:
        adapters: the sites' adapters, of one layout; each is read once for the means, then once per
            block of layers.
        weights: the weight of each included site.
        previous: the adapter at the start of the round.
        residual: the residual at the start of the round.
        max_rank: the largest rank of the new residual.

    Returns:
        The means in float32, the new residual, and the share of its squared norm lost to
        `max_rank`.
    """
    averaged = fedavg(adapters, weights)
    others = [(-1.0, replace(previous, tensors=averaged))]
    if residual is not None:
        others.append((1.0, residual))
    sums = product_sums(adapters, shares(weights), previous, others)
    new_residual, cut = residual_from_sums(sums, previous, max_rank)
    return averaged, new_residual, cut
