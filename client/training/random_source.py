"""Random numbers of private training, for the sampling and the noise.

Anyone who can reproduce them can subtract the noise. At a hospital they come from the operating
system's cryptographic generator: there is no seed that the server could learn or guess. torch's CPU
generator is not suitable: 32 bits of its seed determine the whole sequence. A simulation may use a
seed, so that it can be repeated; it protects no patient.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.float64]


class Randomness:
    """Generator of uniform and normal numbers in double precision from random bytes.

    Args:
        source: returns the requested number of random bytes.
    """

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source

    @classmethod
    def of_system(cls) -> Randomness:
        """Return the generator for real patients."""
        return cls(os.urandom)

    @classmethod
    def of_seed(cls, seed: int) -> Randomness:
        """Return the generator of a simulation: the same seed gives the same numbers."""
        return cls(np.random.Generator(np.random.Philox(seed)).bytes)

    def uniform(self, count: int) -> _Array:
        """Return `count` uniform numbers in [0, 1), multiples of 2^-53."""
        words = np.frombuffer(self._source(8 * count), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, count: int) -> _Array:
        """Return `count` normal numbers of mean 0 and deviation 1 (Box and Muller, 1958)."""
        pairs = -(-count // 2)
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(pairs)))  # 1 - u is never 0
        angle = 2.0 * np.pi * self.uniform(pairs)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
