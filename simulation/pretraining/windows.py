"""An endless stream of batches of windows cut from synthetic series."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.series.series import draw_series, mix_series

TRAINING, HELD_OUT = 0, 1
"""Streams of one recipe: seeded apart, so that neither holds a series of the other."""


class WindowBatch(NamedTuple):
    """Windows of one context length; NaN = not measured.

    Attributes:
        context: ``[batch, context]``, float32.
        target: ``[batch, horizon]``, float32.
    """

    context: Tensor
    target: Tensor


def window_batches(recipe: PretrainingRecipe, stream: int) -> Iterator[WindowBatch]:
    """Yield batches for ever: draw a chunk of series, use each a few times, throw it away."""
    rng = np.random.default_rng([recipe.seed, stream])
    size = recipe.batch_size
    while True:
        pool = draw_series(rng, recipe.series_per_chunk, recipe.series_length, recipe.family_mix)
        order = np.concatenate([rng.permutation(len(pool)) for _ in range(recipe.uses_per_series)])
        for start in range(0, len(order) - size + 1, size):
            rows = pool[order[start : start + size]].astype(np.float64)
            rows = mix_series(rng, rows, pool, recipe.mixup_probability)
            yield _cut(rng, recipe.corruption.measure(rng, rows), recipe)


def held_out_batches(recipe: PretrainingRecipe) -> list[WindowBatch]:
    """Draw the recipe's held-out batches; the same ones at every call."""
    batches = window_batches(recipe, HELD_OUT)
    return [next(batches) for _ in range(recipe.held_out_batches)]


def _cut(
    rng: np.random.Generator,
    series: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    recipe: PretrainingRecipe,
) -> WindowBatch:
    # Log-uniform, for a step costs as much as its context is long.
    bounds = np.log([recipe.min_context, recipe.max_context + 1])
    context = min(recipe.max_context, int(np.exp(rng.uniform(*bounds))))
    length = context + recipe.horizon
    starts = rng.integers(0, recipe.series_length - length + 1, (len(series), 1))
    windows = np.take_along_axis(series, starts + np.arange(length), axis=1)
    windows = recipe.corruption.lose(rng, windows, context).astype(np.float32)
    # Copies, since a view of the window's end would be a tensor with gaps.
    return WindowBatch(
        torch.from_numpy(windows[:, :context].copy()), torch.from_numpy(windows[:, context:].copy())
    )
