"""Random numbers of a private training: who can repeat them can subtract the noise.

At a hospital every one comes from the operating system's generator, made for cryptography: there
is no seed that the server, or anyone, could learn or guess. torch's own generator on the CPU would
not do: whatever seed it is given, 32 bits of it decide all that follows. A simulation may take a
seed instead, so that it can be repeated; nobody's privacy rests on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Randomness:
    """Uniform and normal numbers in double precision from a source of random bytes.

    Args:
        source: gives that many random bytes.
    """

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source

    @classmethod
    def of_system(cls) -> Randomness:
        """Return the randomness for real patients."""
        return cls(os.urandom)

    @classmethod
    def of_seed(cls, seed: int) -> Randomness:
        """Return the randomness of a simulation: the same seed gives the same numbers."""
        return cls(np.random.Generator(np.random.Philox(seed)).bytes)

    def uniform(self, count: int) -> Array:
        """Return `count` numbers of [0, 1), multiples of 2^-53."""
        words = np.frombuffer(self._source(8 * count), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, count: int) -> Array:
        """Return `count` numbers of mean 0 and deviation 1 (Box and Muller, 1958)."""
        pairs = -(-count // 2)
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(pairs)))  # 1 - u is never 0
        angle = 2.0 * np.pi * self.uniform(pairs)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
