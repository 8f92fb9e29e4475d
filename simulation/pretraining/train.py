"""Training loop of all nano models, on batches of windows cut from synthetic series."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.series.series import draw_series, mix_series

TRAINING, HELD_OUT = 0, 1
"""Streams of one recipe, with different seeds, so that they share no series."""


class WindowBatch(NamedTuple):
    """Windows of one context length; NaN = not measured.

    Attributes:
        context: ``[batch, context]``, float32.
        target: ``[batch, horizon]``, float32.
    """

    context: Tensor
    target: Tensor


Builder = Callable[[PretrainingRecipe], nn.Module]
"""Returns the model with random weights from torch's global generator, which is seeded before."""

WindowLoss = Callable[[nn.Module, WindowBatch], Tensor]
"""Returns the loss of each window, ``[batch]``; rows must not depend on each other."""

OnStep = Callable[[int, int, float], None]
"""Called after every step with the step, the number of steps and the step's loss."""


@dataclass(frozen=True)
class LogRow:
    """One row of the training log.

    Attributes:
        step: steps done.
        loss: mean training loss since the previous row.
        learning_rate: learning rate of the step.
        held_out_loss: loss on held-out synthetic windows.
        seconds: seconds since the start.
    """

    step: int
    loss: float
    learning_rate: float
    held_out_loss: float
    seconds: float


def train_model(
    recipe: PretrainingRecipe,
    build: Builder,
    window_loss: WindowLoss,
    on_step: OnStep | None = None,
) -> tuple[nn.Module, list[LogRow]]:
    """Build a model and train it on the recipe's series, on one thread and deterministically.

    Args:
        recipe: the recipe.
        build: returns the model with random weights.
        window_loss: returns the loss of each window of a batch.
        on_step: called after every step.

    Returns:
        The model in evaluation mode, and the training log.
    """
    with deterministic(recipe.seed):
        model = build(recipe)
        optimizer = _optimizer(model, recipe)
        schedule = LambdaLR(optimizer, lambda step: _warmup_cosine(step, recipe))
        batches = window_batches(recipe, TRAINING)
        held_out = held_out_batches(recipe)
        log: list[LogRow] = []
        losses: list[float] = []
        start = time.monotonic()
        for step in range(1, recipe.steps + 1):
            rate = float(schedule.get_last_lr()[0])
            losses.append(_train_step(model, next(batches), window_loss, optimizer, recipe))
            schedule.step()
            if _is_logged(step, recipe):
                seconds = time.monotonic() - start
                mean = math.fsum(losses) / len(losses)
                log.append(
                    LogRow(step, mean, rate, mean_loss(model, held_out, window_loss), seconds)
                )
                losses.clear()
            if on_step is not None:
                on_step(step, recipe.steps, log[-1].loss if not losses else losses[-1])
    return model.eval(), log


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed torch and use one thread and deterministic kernels; restore all afterwards.

    One thread, because the order of a parallel sum, and so its last bits, depends on their number.
    """
    threads = torch.get_num_threads()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def _train_step(
    model: nn.Module,
    batch: WindowBatch,
    window_loss: WindowLoss,
    optimizer: AdamW,
    recipe: PretrainingRecipe,
) -> float:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = window_loss(model, batch).mean()
    torch.autograd.backward(loss)
    nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
    optimizer.step()
    return float(loss.detach())


def _optimizer(model: nn.Module, recipe: PretrainingRecipe) -> AdamW:
    matrices = [p for p in model.parameters() if p.requires_grad and p.dim() > 1]
    others = [p for p in model.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98))


def _warmup_cosine(step: int, recipe: PretrainingRecipe) -> float:
    warmup = max(1, round(recipe.warmup_share * recipe.steps))
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, recipe.steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _is_logged(step: int, recipe: PretrainingRecipe) -> bool:
    every = max(1, recipe.steps // recipe.log_rows)
    return step % every == 0 or step == recipe.steps


def mean_loss(model: nn.Module, batches: list[WindowBatch], window_loss: WindowLoss) -> float:
    """Return the mean loss over all windows of some batches; leaves the model in training mode."""
    model.eval()
    with torch.no_grad():
        losses = torch.cat([window_loss(model, batch) for batch in batches])
    model.train()
    return float(losses.mean())


def window_batches(recipe: PretrainingRecipe, stream: int) -> Iterator[WindowBatch]:
    """Yield batches endlessly: draw a chunk of series, use each a few times, discard it."""
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
    """Return the recipe's held-out batches, the same ones at every call."""
    batches = window_batches(recipe, HELD_OUT)
    return [next(batches) for _ in range(recipe.held_out_batches)]


def _cut(
    rng: np.random.Generator,
    series: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    recipe: PretrainingRecipe,
) -> WindowBatch:
    # Log-uniform, since the cost of a step grows with its context.
    bounds = np.log([recipe.min_context, recipe.max_context + 1])
    context = min(recipe.max_context, int(np.exp(rng.uniform(*bounds))))
    length = context + recipe.horizon
    starts = rng.integers(0, recipe.series_length - length + 1, (len(series), 1))
    windows = np.take_along_axis(series, starts + np.arange(length), axis=1)
    windows = recipe.corruption.lose(rng, windows, context).astype(np.float32)
    # Copies, since a view of the window's end would not be contiguous.
    return WindowBatch(
        torch.from_numpy(windows[:, :context].copy()), torch.from_numpy(windows[:, context:].copy())
    )
