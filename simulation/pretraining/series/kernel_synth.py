"""Gaussian processes with randomly composed kernels: the KernelSynth family.

Source: Ansari et al., "Chronos: Learning the Language of Time Series", arXiv 2403.07815,
algorithm 2 (KernelSynth). Two differences: length scales are drawn instead of listed, and one
Cholesky factor is used for several series, since factorising costs a thousand times more than
drawing.

The linear algebra is torch's on one thread. numpy reads its number of threads from the environment
when Python starts, and the last bits of a factor, and so of the weights trained on it, depend on
that number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float64]
Kernel = Callable[[np.random.Generator, Array], Array]

MAX_KERNELS = 5
"""Largest number of kernels in a composition, as in the source."""

DRAWS_PER_KERNEL = 32
"""Series drawn from one composed kernel."""

PERIODS = (4, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 30, 36, 48, 52, 60, 84, 96, 120, 168)
"""Periods in steps; those of the calendar (hours, days, weeks, months) and some others."""

_JITTER = 1e-6


def kernel_synth(rng: np.random.Generator, count: int, length: int) -> Array:
    """Draw from zero-mean Gaussian processes; each kernel is a random sum and product of 1 to 5.

    Returns:
        ``[count, length]``, one unit of variance on average over a series.
    """
    time = np.linspace(0.0, 1.0, length)
    blocks = []
    with _one_thread():
        for start in range(0, count, DRAWS_PER_KERNEL):
            rows = min(DRAWS_PER_KERNEL, count - start)
            factor = _cholesky(torch.from_numpy(_compose(rng, time)))  # [length, length]
            noise = torch.from_numpy(rng.standard_normal((rows, length)))
            blocks.append((noise @ factor.T).numpy())
    return np.concatenate(blocks) if blocks else np.empty((0, length))


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compose(rng: np.random.Generator, time: Array) -> Array:
    composed = _unit(_draw_kernel(rng, time))
    for _ in range(int(rng.integers(0, MAX_KERNELS))):
        other = _unit(_draw_kernel(rng, time))
        composed = composed + other if rng.random() < 0.5 else composed * other
    return _unit(composed)


def _draw_kernel(rng: np.random.Generator, time: Array) -> Array:
    return _BANK[int(rng.choice(len(_BANK), p=_WEIGHTS))](rng, time)


def _unit(kernel: Array) -> Array:
    # Otherwise a squared linear kernel would dominate the sum.
    return np.asarray(kernel / np.mean(np.diag(kernel)))


def _cholesky(kernel: Tensor) -> Tensor:
    identity = torch.eye(len(kernel), dtype=kernel.dtype)
    jitter = _JITTER
    while True:
        result = torch.linalg.cholesky_ex(kernel + jitter * identity)
        if int(result.info) == 0:
            factor: Tensor = result.L
            return factor
        jitter *= 10  # products of periodic kernels lose rank beyond the first jitter


def _gap(time: Array) -> Array:
    return np.asarray(np.abs(time[:, None] - time[None, :]))


def _constant(_rng: np.random.Generator, time: Array) -> Array:
    return np.ones((len(time), len(time)))


def _white(_rng: np.random.Generator, time: Array) -> Array:
    return np.eye(len(time))


def _linear(rng: np.random.Generator, time: Array) -> Array:
    centre = rng.uniform(0.0, 1.0)
    return np.asarray(rng.choice([0.0, 0.1, 1.0]) + np.outer(time - centre, time - centre))


def _squared_exponential(rng: np.random.Generator, time: Array) -> Array:
    scale = 10 ** rng.uniform(-2.0, 0.5)
    return np.asarray(np.exp(-0.5 * (_gap(time) / scale) ** 2))


def _rational_quadratic(rng: np.random.Generator, time: Array) -> Array:
    alpha = rng.choice([0.1, 1.0, 10.0])
    scale = 10 ** rng.uniform(-2.0, 0.5)
    return np.asarray((1.0 + _gap(time) ** 2 / (2.0 * alpha * scale**2)) ** -alpha)


def _periodic(rng: np.random.Generator, time: Array) -> Array:
    period = rng.choice(PERIODS) / (len(time) - 1)
    scale = rng.uniform(0.3, 2.0)
    return np.asarray(np.exp(-2.0 * (np.sin(np.pi * _gap(time) / period) / scale) ** 2))


_BANK: tuple[Kernel, ...] = (
    _constant,
    _white,
    _linear,
    _squared_exponential,
    _rational_quadratic,
    _periodic,
)

# The source lists one constant, two white, three linear, three squared exponential, three rational
# quadratic and about twenty periodic kernels; here periodic ones are held to two fifths.
_WEIGHTS = (0.05, 0.10, 0.10, 0.175, 0.175, 0.40)
