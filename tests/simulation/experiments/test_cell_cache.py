from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from common.config.run_config import RunConfig, Value
from simulation.experiments import cell_cache
from simulation.experiments.cell_cache import (
    Cell,
    CellResult,
    SiteSettings,
    cell_key,
    read_cell,
    write_cell,
)
from simulation.experiments.models.registry import METHODS
from simulation.experiments.run_cells import CellProgress, run_cell
from tests.samples.experiments import evaluation


def key(cell: Cell) -> str:
    return cell_key(cell.cache_inputs(METHODS[cell.method].reads))


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


@pytest.mark.parametrize(
    ("method", "options", "expected"),
    [
        ("last-value", {}, "644c278999db992561d6"),
        ("zero-shot", {}, "f550274b51c598e18c54"),
        ("federated", {}, "eb73a9d768dca50cac0c"),
        ("nhits", {"learning-rate": 3e-5, "rounds": 30}, "04f68f703e7e5dec39c8"),
    ],
)
def test_keys_of_earlier_releases_are_still_found(
    method: str, options: dict[str, Value], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure means that every cached cell is lost; raise `CELL_FORMAT` if results change."""
    digests = {"ccu": "0f" * 32, "micu": "1e" * 32}
    monkeypatch.setattr(cell_cache, "table_digests", lambda _data: digests)
    config = RunConfig.parse({"data": "cohort", "windows.context": 24})
    own: SiteSettings = {"ccu": {"lora-rank": 2}} if method == "federated" else {}
    assert key(Cell("a", method, config, own, options)) == expected


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


def test_a_result_is_read_back_without_patient_ids(tmp_path: Path) -> None:
    result = CellResult({"ccu": evaluation([1.0, 2.0])}, {"bytes": 8}, {"seconds": 0.5})
    write_cell(tmp_path / "cell", {"method": "x"}, result)
    back = read_cell(tmp_path / "cell")
    assert back is not None
    assert (back.facts, back.measured) == (result.facts, result.measured)
    assert back.scores["ccu"].patient_ids == ("0", "1")
    np.testing.assert_array_equal(back.scores["ccu"].numerator, result.scores["ccu"].numerator)
    record = json.loads((tmp_path / "cell" / "cell.json").read_text(encoding="utf-8"))
    assert record.keys() == {"deciding", "facts", "measured", "metrics"}


@pytest.mark.parametrize("damage", ["cell.json", "scores.safetensors"])
def test_a_damaged_cell_is_run_again(quick: RunConfig, tmp_path: Path, damage: str) -> None:
    cell = Cell("last", "last-value", quick)
    first = run_cell(cell, tmp_path, CellProgress.silent())
    (file,) = tmp_path.glob(f"cells/*/{damage}")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert read_cell(file.parent) is None
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
