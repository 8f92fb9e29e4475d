from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.config.run_config import RunConfig
from simulation.experiments.cell_cache import (
    Cell,
    Outcome,
    cell_key,
    read_outcome,
    write_outcome,
)
from simulation.experiments.models.registry import METHODS
from simulation.experiments.runner import CellProgress, run_cell
from tests.experiment_samples import evaluation


def key(cell: Cell) -> str:
    return cell_key(cell.deciding(METHODS[cell.method].reads))


def test_the_key_follows_what_decides_the_numbers_and_nothing_else(
    quick: RunConfig, tmp_path: Path
) -> None:
    cell = Cell("a", "federated", quick)
    assert key(replace(cell, arm="b")) == key(cell)
    assert key(replace(cell, config=quick.replace(out=str(tmp_path), resume=True))) == key(cell)
    spelled_out = quick.replace(aggregation=quick.aggregation.replace(rule="fedavg"))
    assert key(replace(cell, config=spelled_out)) == key(cell)
    others = [
        cell.with_seed(1),
        replace(cell, method="local"),
        replace(cell, own={"ccu": {"lora-rank": 1}}),
        replace(cell, options={"rounds": 3}),
        replace(cell, tested=quick.data),
        replace(cell, config=quick.replace(rounds=2)),
    ]
    assert len({key(cell), *map(key, others)}) == 1 + len(others)


def test_another_site_table_is_another_cell(quick: RunConfig, tmp_path: Path) -> None:
    copy = tmp_path / "cohort"
    shutil.copytree(quick.data, copy)
    moved = Cell("a", "zero-shot", quick.replace(data=str(copy)))
    assert key(moved) == key(Cell("a", "zero-shot", quick))
    shutil.copy(copy / "sites" / "ccu.parquet", copy / "sites" / "micu.parquet")
    assert key(moved) != key(Cell("a", "zero-shot", quick))


def test_a_baseline_ignores_the_seed_and_the_training(quick: RunConfig) -> None:
    cell = Cell("a", "ewma", quick)
    assert not METHODS["ewma"].seeded
    assert METHODS["federated-full"].seeded
    assert key(cell.with_seed(5)) == key(cell)
    assert key(replace(cell, config=quick.replace(rounds=9))) == key(cell)


def test_an_outcome_comes_back_as_it_was_without_names_of_patients(tmp_path: Path) -> None:
    outcome = Outcome({"ccu": evaluation([1.0, 2.0])}, {"bytes": 8}, {"seconds": 0.5})
    write_outcome(tmp_path / "cell", {"method": "x"}, outcome)
    back = read_outcome(tmp_path / "cell")
    assert back is not None
    assert (back.facts, back.measured) == (outcome.facts, outcome.measured)
    assert back.scores["ccu"].patient_ids == ("0", "1")
    np.testing.assert_array_equal(back.scores["ccu"].numerator, outcome.scores["ccu"].numerator)


@pytest.mark.parametrize("damage", ["cell.json", "scores.safetensors"])
def test_a_damaged_cell_is_run_again(quick: RunConfig, tmp_path: Path, damage: str) -> None:
    cell = Cell("last", "last-value", quick)
    first = run_cell(cell, tmp_path, CellProgress.silent())
    (file,) = tmp_path.glob(f"cells/*/{damage}")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert read_outcome(file.parent) is None
    progress = CellProgress.silent()
    again = run_cell(cell, tmp_path, progress)
    assert progress.computed
    assert file.read_bytes() == whole
    assert again.facts == first.facts


def test_a_finished_cell_is_not_run_again(quick: RunConfig, tmp_path: Path) -> None:
    cell = Cell("last", "last-value", quick)
    run_cell(cell, tmp_path, CellProgress.silent())
    progress = CellProgress.silent()
    run_cell(cell, tmp_path, progress)
    assert not progress.computed


def test_what_was_run_before_does_not_decide_the_number_of_threads(
    quick: RunConfig, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(before + 1)
        run_cell(Cell("alone", "zero-shot", quick), tmp_path, CellProgress.silent())
        assert torch.get_num_threads() == quick.train.threads
    finally:
        torch.set_num_threads(before)
