"""FLoRA: the sites' pairs are stacked, so that the mean is exact (Wang et al., arXiv 2409.05976).

``sum_k w_k s_k B_k A_k`` is one product of all the pairs beside each other. It joins what is
carried beside the adapter (see `common.adapter.residual`), and every site starts the next round
with a fresh pair: B zero, A drawn anew. Sites may have different ranks. The carried part grows up
to a cap; what does not fit is the only thing that is lost.
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
    carried: Adapter | None,
    max_rank: int,
) -> tuple[dict[str, Matrix], Adapter, float]:
    """Add the sites' mean update to the carried part, and start a fresh pair.

    Args:
        adapters: the sites' adapters, of any ranks; each is read once a block of layers.
        weights: the weight of each site that counts.
        previous: the adapter that the round began with.
        carried: the part that stood beside it.
        max_rank: the largest rank of the carried part.

    Returns:
        The fresh matrices in float32, the carried part, and the share of its squared norm that the
        cap cut off.
    """
    others = [(1.0, carried)] if carried is not None else []
    sums = product_sums(adapters, shares(weights), previous, others)
    part, cut = residual_from_sums(sums, previous, max_rank)
    return fresh_pairs(previous), part, cut


def fresh_pairs(previous: Adapter) -> dict[str, Matrix]:
    """Return A drawn anew, as large as the previous A, and B zero.

    Uniform as in PEFT. The draw follows from the previous A alone: every round trains in other
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
