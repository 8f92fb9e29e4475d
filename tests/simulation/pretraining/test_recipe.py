from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
import torch

from common.errors import UsageError
from simulation.pretraining.models.chronos_bolt_nano import RECIPE
from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import (
    HELD_OUT,
    TRAINING,
    WindowBatch,
    held_out_batches,
    window_batches,
)

SMALL = dataclasses.replace(
    RECIPE, series_per_chunk=128, batch_size=32, held_out_batches=2, uses_per_series=2
)


def test_json_round_trip_keeps_every_field() -> None:
    plain = json.loads(json.dumps(RECIPE.to_json()))

    assert PretrainingRecipe.from_json(plain).to_json() == RECIPE.to_json()


@pytest.mark.parametrize("change", [{"stepps": 4}, {"corruption": {"blur": 1.0}}])
def test_unknown_field_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"recipe: .*the fields are"):
        PretrainingRecipe.from_json({**RECIPE.to_json(), **change})


def test_missing_field_is_refused() -> None:
    with pytest.raises(UsageError, match="family_mix"):
        PretrainingRecipe.from_json({"name": "x", "architecture": {}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps: got 0"),
        ({"seed": -1}, "seed: got -1"),
        ({"schedule": "linear"}, "schedule: got 'linear'"),
        ({"max_context": 250}, "exceed series_length"),
    ],
)
def test_impossible_recipe_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PretrainingRecipe.from_json({**RECIPE.to_json(), **change})


def test_series_count_covers_the_steps() -> None:
    recipe = dataclasses.replace(SMALL, steps=9)  # 288 windows, 256 a chunk

    assert recipe.series_count == 2 * 128


def _first(recipe: PretrainingRecipe, stream: int, count: int) -> list[WindowBatch]:
    return list(itertools.islice(window_batches(recipe, stream), count))


def _same(left: WindowBatch, right: WindowBatch) -> bool:
    return left.context.shape == right.context.shape and torch.equal(
        left.context.nan_to_num(9e9), right.context.nan_to_num(9e9)
    )


def test_windows_have_the_asked_shapes_and_something_to_learn() -> None:
    for context, target in _first(SMALL, TRAINING, 12):  # past the end of a chunk
        assert context.shape[0] == target.shape[0] == 32
        assert 24 <= context.shape[1] <= 192
        assert target.shape[1] == 24
        assert context.dtype == target.dtype == torch.float32
        assert (~context.isnan()).sum(dim=1).min() >= 4
        assert (~target.isnan()).sum(dim=1).min() >= 1
        assert not context.isinf().any()


def test_windows_are_decided_by_seed_and_stream() -> None:
    first, again = _first(SMALL, TRAINING, 3), _first(SMALL, TRAINING, 3)
    other_stream = _first(SMALL, HELD_OUT, 3)
    other_seed = _first(dataclasses.replace(SMALL, seed=1), TRAINING, 3)

    assert all(map(_same, first, again))
    assert not any(map(_same, first, other_stream))
    assert not any(map(_same, first, other_seed))


def test_held_out_windows_do_not_depend_on_the_number_of_steps() -> None:
    longer = dataclasses.replace(SMALL, steps=SMALL.steps * 2)

    assert len(held_out_batches(SMALL)) == 2
    assert all(map(_same, held_out_batches(SMALL), held_out_batches(longer)))
