"""Which sites a round asks: all of them, or a share drawn anew from the run's seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from common.seeds import derive_seed


def sample_sites(
    sites: Sequence[str], fraction: float, least: int, seed: int, round_number: int
) -> list[str]:
    """Draw the sites of a round, without replacement.

    Args:
        sites: the members.
        fraction: the share to draw, rounded up.
        least: never fewer than these, as long as there are so many.
        seed: the run's seed; with the round it decides the draw.
        round_number: the round.

    Returns:
        The drawn sites, sorted; all of them where the fraction is 1.
    """
    count = min(len(sites), max(least, math.ceil(fraction * len(sites))))
    random = np.random.default_rng(derive_seed(seed, "sites", round_number))
    drawn = random.permutation(len(sites))[:count]
    names = sorted(sites)
    return sorted(names[index] for index in drawn)
