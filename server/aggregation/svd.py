"""Rank-r truncation of the sites' mean update (compare FlexLoRA, Bai et al., arXiv 2402.11505).

The mean of the products, ``sum_k w_k (alpha_k / r_k) B_k A_k``, has a rank up to the sum of the
sites' ranks; its first r singular directions are the nearest adapter of rank r. Sites may have
different ranks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common.adapter.adapter import Adapter, Matrix, tensor_name
from server.aggregation.tensor_ops import product_sums, shares
from server.aggregation.truncation import trainable_pair


def svd(
    adapters: Mapping[str, Adapter], weights: Mapping[str, float], previous: Adapter
) -> tuple[dict[str, Matrix], float]:
    """Average the sites' products and truncate the mean to the run's rank.

    Args:
        adapters: the sites' adapters, of any ranks; each is read once per block of layers.
        weights: the weight of each included site.
        previous: the adapter at the start of the round; gives rank and alpha of the result.

    Returns:
        The matrices in float32, divided by alpha / r; and the share of the mean's squared norm lost
        to the rank.
    """
    tensors: dict[str, Matrix] = {}
    kept = total = 0.0
    for module, mean in product_sums(adapters, shares(weights), previous):
        found = mean.svd()
        squares = np.square(found.s)
        total += float(squares.sum())
        kept += float(squares[: previous.rank].sum())
        unscaled = found._replace(s=found.s / previous.scaling)
        pair = trainable_pair(unscaled, previous.rank, previous.pair(module)[0])
        tensors[tensor_name(module, "A")], tensors[tensor_name(module, "B")] = pair
    return tensors, max(0.0, 1.0 - kept / total) if total > 0 else 0.0
