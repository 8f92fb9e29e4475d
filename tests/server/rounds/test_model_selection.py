from __future__ import annotations

import numpy as np
import pytest

from common.adapter.adapter import Adapter, tensor_name
from server.rounds.model_selection import BestAdapter, ModelSelection

WEIGHTS = {"easy": 1.0, "hard": 3.0}


def adapter(number: int) -> Adapter:
    tensors = {
        tensor_name("q", "A"): np.full((1, 2), number, np.float32),
        tensor_name("q", "B"): np.full((2, 1), number, np.float32),
    }
    return Adapter(tensors, 1, 1.0, "q", "b", "0" * 64)


def select(*rounds: dict[str, float]) -> BestAdapter:
    selection = ModelSelection(BestAdapter(adapter(0)))
    for number, wql in enumerate(rounds):
        selection.update(number, adapter(number), wql, {site: WEIGHTS[site] for site in wql})
    return selection.best


def test_the_lowest_is_kept_with_its_adapter() -> None:
    best = select(
        {"easy": 0.1, "hard": 0.9}, {"easy": 0.1, "hard": 0.6}, {"easy": 0.1, "hard": 0.7}
    )
    assert (best.round, best.stale) == (1, 1)
    assert best.adapter == adapter(1)
    assert best.score == pytest.approx((1 * 1 + 3 * 0.6 / 0.9) / 4)


def test_a_hard_site_that_is_away_makes_no_round_the_best() -> None:
    # Its absence halves the plain mean; relative to its own start nothing got better.
    best = select({"easy": 0.1, "hard": 0.9}, {"easy": 0.09, "hard": 0.5}, {"easy": 0.1})
    assert best.round == 1


def test_training_that_only_harms_releases_the_fresh_adapter() -> None:
    assert select({"easy": 0.1}, {"easy": 0.2}, {"easy": 0.3}).round == 0


def test_without_any_validation_the_last_is_kept() -> None:
    assert select({}, {}, {}).round == 2


def test_a_round_without_validation_cannot_win() -> None:
    best = select({"easy": 0.2}, {"easy": 0.1}, {})
    assert (best.round, best.stale) == (1, 1)


def test_a_site_that_joins_in_late_has_no_start_to_compare_with() -> None:
    assert select({"easy": 0.2}, {"easy": 0.1, "hard": 0.9}).score == pytest.approx(0.5)
