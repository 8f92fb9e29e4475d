from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from common.errors import SourceError, UsageError
from simulation.pretraining.zero_shot import (
    CHALLENGE_VITALS,
    EvaluationWindows,
    challenge_windows,
    ewma_quantiles,
    last_value_quantiles,
    relative_scores,
    report,
)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Three stays as the challenge writes them: 72 h, 54 h and too short."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "training_setB"
    folder.mkdir()
    for index, hours in enumerate((72, 54, 40)):
        values = 80 + np.cumsum(rng.standard_normal((hours, len(CHALLENGE_VITALS))), axis=0)
        lines = ["|".join([*CHALLENGE_VITALS, "SepsisLabel"])]
        for step, row in enumerate(values):
            texts = [f"{value:.1f}" for value in row]
            texts[2] = texts[2] if step % 12 == 0 else "NaN"  # Temp: too rare for a window
            lines.append("|".join([*texts, "0"]))
        (folder / f"p{index}.psv").write_text("\n".join(lines) + "\n")
    return folder


def test_windows_of_a_folder_and_of_its_tar_are_the_same(records: Path, tmp_path: Path) -> None:
    archive = tmp_path / "set.tar.xz"
    with tarfile.open(archive, "w:xz") as tar:
        for path in sorted(records.iterdir()):
            tar.add(path, arcname=f"training_setB/{path.name}")

    folder, packed = challenge_windows(records), challenge_windows(archive)

    assert folder.stays == 2
    assert folder.context.shape == (3 * 6, 48)  # origins 48 and 60 h, then 48 h; no Temp
    assert folder.target.shape == (3 * 6, 6)
    assert CHALLENGE_VITALS.index("Temp") not in folder.vital
    np.testing.assert_array_equal(folder.context, packed.context)


def test_a_missing_or_empty_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        challenge_windows(tmp_path / "nowhere.tar.xz")
    with pytest.raises(SourceError, match="0 windows"):
        challenge_windows(tmp_path)


def test_last_value_skips_missing_values_and_widens() -> None:
    context = np.array([[1.0, 2.0, 4.0, np.nan]])

    quantiles = last_value_quantiles(context, 3)

    np.testing.assert_allclose(quantiles[0, :, 4], 4.0)
    width = quantiles[0, :, 8] - quantiles[0, :, 0]
    deviation = np.sqrt((1.0**2 + 2.0**2) / 2)
    np.testing.assert_allclose(width, 2 * 1.2815516 * deviation * np.sqrt([1, 2, 3]), rtol=1e-6)


def test_ewma_is_the_weighted_mean() -> None:
    quantiles = ewma_quantiles(np.array([[10.0, 20.0, np.nan, 20.0]]), 2)

    np.testing.assert_allclose(quantiles[0, :, 4], 20.0 - 10.0 * 0.65**2)


def test_compare_gives_one_for_the_last_value_itself() -> None:
    rng = np.random.default_rng(1)
    context = np.cumsum(rng.standard_normal((40, 48)), axis=1).astype(np.float32)
    target = (context[:, -1:] + rng.standard_normal((40, 6))).astype(np.float32)
    windows = EvaluationWindows(context, target, np.arange(40) % 2, stays=4)

    naive, truth = (
        last_value_quantiles(context.astype(np.float64), 6),
        target[:, :, None].astype(np.float64),
    )
    compared = relative_scores(windows, naive)
    halved = relative_scores(windows, truth + (naive - truth) / 2)

    assert compared["relative"]["zero_shot"]["geometric mean"] == {"mae": 1.0, "pinball": 1.0}
    assert halved["relative"]["zero_shot"]["HR"] == {"mae": 0.5, "pinball": 0.5}
    assert set(compared["relative"]["ewma"]) == {"HR", "O2Sat", "geometric mean"}


def test_report_refuses_a_folder_without_a_recipe(tmp_path: Path, records: Path) -> None:
    with pytest.raises(UsageError, match=r"recipe\.json"):
        report(tmp_path, records)


def test_report_writes_the_figures_and_the_card(
    tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from simulation.pretraining import NANO_MODELS, pretrain

    name = "chronos-bolt-nano"
    nano = NANO_MODELS[name]
    recipe = dataclasses.replace(
        nano.recipe, batch_size=8, series_per_chunk=64, held_out_batches=1, steps=1
    )
    monkeypatch.setitem(NANO_MODELS, name, dataclasses.replace(nano, recipe=recipe))
    folder = tmp_path / "weights"
    pretrain(name, folder)
    assert "Not measured for these weights" in (folder / "README.md").read_text()

    report(folder, records)

    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["stays"] == 2
    assert "| HR | " in (folder / "README.md").read_text()
