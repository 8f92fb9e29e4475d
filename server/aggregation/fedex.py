"""FedEx-LoRA: FedAvg, and its error carried beside the adapter (Singhal et al., arXiv 2410.09432).

The mean of A and that of B miss the mean of the products by ``sum_k w_k s B_k A_k - s B_mean
A_mean``. The paper adds this to the frozen weights; here it joins the low-rank part beside the
adapter (see `common.adapter.residual`), so that the backbone and its digest stay as they are.
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
    carried: Adapter | None,
    max_rank: int,
) -> tuple[dict[str, Matrix], Adapter, float]:
    """Average A and B apart, and carry what that misses of the mean product.

    Args:
        adapters: the sites' adapters, of one layout; each is read once, and once a block of layers.
        weights: the weight of each site that counts.
        previous: the adapter that the round began with.
        carried: the part that stood beside it.
        max_rank: the largest rank of the carried part.

    Returns:
        The means in float32, the carried part, and the share of its squared norm that the cap cut
        off.
    """
    averaged = fedavg(adapters, weights)
    others = [(-1.0, replace(previous, tensors=averaged))]
    if carried is not None:
        others.append((1.0, carried))
    sums = product_sums(adapters, shares(weights), previous, others)
    part, cut = residual_from_sums(sums, previous, max_rank)
    return averaged, part, cut
