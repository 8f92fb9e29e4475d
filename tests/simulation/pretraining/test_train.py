from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor, nn

from simulation.pretraining.models.chronos_bolt_nano import RECIPE
from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import LogRow, WindowBatch, deterministic, mean_loss, train_model

TINY = dataclasses.replace(
    RECIPE,
    architecture={"hidden": 8},
    steps=40,
    batch_size=32,
    learning_rate=1e-2,
    series_per_chunk=128,
    held_out_batches=1,
    log_rows=10,
    max_context=24,
    family_mix={"random_walk": 1.0},
)


def _build(recipe: PretrainingRecipe) -> nn.Module:
    hidden = int(recipe.architecture["hidden"])
    return nn.Sequential(
        nn.Linear(recipe.max_context, hidden), nn.Tanh(), nn.Linear(hidden, recipe.horizon)
    )


def _window_loss(model: nn.Module, batch: WindowBatch) -> Tensor:
    context, target = batch.context.nan_to_num(0.0), batch.target.nan_to_num(0.0)
    scale = context.abs().mean(dim=1, keepdim=True) + 1e-3
    loss: Tensor = (model(context / scale) - target / scale).abs().clamp(max=5.0).mean(dim=1)
    return loss


def _run(recipe: PretrainingRecipe) -> tuple[nn.Module, list[LogRow]]:
    return train_model(recipe, _build, _window_loss)


def test_any_model_can_be_trained_and_its_loss_falls() -> None:
    model, log = _run(TINY)

    assert not model.training
    assert log[-1].held_out_loss < log[0].held_out_loss


def test_log_has_the_asked_rows_and_the_schedule() -> None:
    _, log = _run(TINY)

    assert [row.step for row in log] == list(range(4, 41, 4))
    assert max(row.learning_rate for row in log) <= TINY.learning_rate
    assert log[-1].learning_rate < 0.01 * TINY.learning_rate
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(log))


def test_same_seed_gives_the_same_weights_and_another_does_not() -> None:
    first, again, other = (
        _run(dataclasses.replace(TINY, seed=seed, steps=5))[0].state_dict() for seed in (1, 1, 2)
    )

    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_on_step_is_called_for_every_step() -> None:
    calls: list[tuple[int, int, float]] = []

    train_model(
        dataclasses.replace(TINY, steps=5),
        _build,
        _window_loss,
        lambda step, steps, loss: calls.append((step, steps, loss)),
    )

    assert [entry[:2] for entry in calls] == [(step, 5) for step in range(1, 6)]
    assert all(0 < loss < 5 for _, _, loss in calls)


def test_mean_loss_weighs_windows_alike_and_leaves_the_model_training() -> None:
    model = nn.Linear(1, 1)
    short = WindowBatch(torch.zeros(1, 4), torch.zeros(1, 2))
    long = WindowBatch(torch.zeros(3, 4), torch.ones(3, 2))

    mean = mean_loss(model, [short, long], lambda _, batch: batch.target.mean(dim=1))

    assert mean == pytest.approx(0.75)
    assert model.training


def _fail_inside_deterministic() -> None:
    with deterministic(5):
        assert torch.get_num_threads() == 1
        assert torch.are_deterministic_algorithms_enabled()
        raise RuntimeError("stop")


def test_deterministic_restores_torch_even_after_a_failure() -> None:
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    state = torch.random.get_rng_state()

    with pytest.raises(RuntimeError, match="stop"):
        _fail_inside_deterministic()

    assert torch.get_num_threads() == threads
    assert torch.are_deterministic_algorithms_enabled() == strict
    assert torch.equal(torch.random.get_rng_state(), state)
