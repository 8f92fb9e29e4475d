from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from common.errors import UsageError
from common.evaluation.evaluate import LEVELS
from common.files.hashing import file_sha256
from simulation.pretraining import NANO_MODELS, default_folder, nano_model, pretrain
from simulation.pretraining.models.chronos_bolt_nano import build, window_loss
from simulation.pretraining.recipe import PretrainingRecipe
from simulation.pretraining.train import WindowBatch

NAME = "chronos-bolt-nano"


@pytest.fixture(autouse=True)
def _small_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped architecture on fewer series: the run is over in a second."""
    nano = NANO_MODELS[NAME]
    recipe = dataclasses.replace(
        nano.recipe, batch_size=8, series_per_chunk=64, held_out_batches=1, steps=2
    )
    monkeypatch.setitem(NANO_MODELS, NAME, dataclasses.replace(nano, recipe=recipe))


def test_the_folder_is_complete_and_the_pipeline_reads_it(tmp_path: Path) -> None:
    from chronos import ChronosBoltPipeline

    out = tmp_path / "made" / NAME
    pretrain(NAME, out)

    names = {"README.md", "config.json", "model.safetensors", "recipe.json", "training_log.csv"}
    assert {path.name for path in out.iterdir()} == names
    assert [path.name for path in out.parent.iterdir()] == [NAME]  # no temporary folder is left
    pipeline = ChronosBoltPipeline.from_pretrained(out)
    context = torch.sin(torch.arange(48.0)).repeat(3, 1)
    context[0, :20] = torch.nan
    quantiles, median = pipeline.predict_quantiles(context, 6, list(LEVELS))
    assert quantiles.shape == (3, 6, 9)
    assert median.shape == (3, 6)
    assert quantiles.isfinite().all()


def test_the_recipe_remakes_the_weights(tmp_path: Path) -> None:
    pretrain(NAME, tmp_path / "a", steps=3, seed=11)
    record = json.loads((tmp_path / "a" / "recipe.json").read_text())
    recipe = PretrainingRecipe.from_json(record["recipe"])
    pretrain(NAME, tmp_path / "b", steps=recipe.steps, seed=recipe.seed)
    pretrain(NAME, tmp_path / "c", steps=3, seed=12)

    first, again, other = (file_sha256(tmp_path / name / "model.safetensors") for name in "abc")
    assert first == again == record["sha256"]["model.safetensors"]
    assert first != other
    assert record["command"].endswith("pretrain chronos-bolt-nano --steps 3 --seed 11")
    assert {"torch", "numpy", "transformers", "chronos-forecasting"} <= set(record["versions"])


def test_the_training_log_has_a_row_a_step_of_a_short_run(tmp_path: Path) -> None:
    steps: list[int] = []
    pretrain(
        NAME, tmp_path / NAME, steps=3, progress=lambda step, _steps, _loss: steps.append(step)
    )

    rows = list(csv.DictReader((tmp_path / NAME / "training_log.csv").open()))

    assert steps == [1, 2, 3]
    assert [int(row["step"]) for row in rows] == steps
    assert all(float(row["held_out_synthetic_loss"]) > 0 for row in rows)


def test_older_weights_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / NAME
    out.mkdir()
    (out / "recipe.json").write_text("{}")
    (out / "stale.txt").write_text("of the run before")

    pretrain(NAME, out)

    assert not (out / "stale.txt").exists()
    assert (out / "model.safetensors").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("do not lose me")

    with pytest.raises(UsageError, match=r"holds no recipe\.json"):
        pretrain(NAME, tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_failed_run_keeps_the_older_weights(tmp_path: Path) -> None:
    out = tmp_path / NAME
    out.mkdir()
    (out / "recipe.json").write_text("{}")

    def stop(step: int, _steps: int, _loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(NAME, out, progress=stop)

    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert (out / "recipe.json").read_text() == "{}"


def test_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'chronos-bolt-nano'"):
        nano_model("chronos-bolt-nanno")
    with pytest.raises(
        UsageError, match=r"unknown nano backbone 'zzz'; known are: .*chronos-bolt-nano"
    ):
        pretrain("zzz", Path("unused"))


@pytest.mark.parametrize(("steps", "seed"), [(0, None), (None, -1)])
def test_impossible_numbers_are_refused(
    tmp_path: Path, steps: int | None, seed: int | None
) -> None:
    with pytest.raises(UsageError, match="got"):
        pretrain(NAME, tmp_path / NAME, steps=steps, seed=seed)


def test_default_folder_is_in_the_package() -> None:
    assert default_folder(NAME).parts[-4:] == ("common", "backbones", "weights", NAME)


def test_window_loss_is_the_published_one_where_nothing_is_missing() -> None:
    torch.manual_seed(0)
    model = build(NANO_MODELS[NAME].recipe).eval()
    context, target = torch.randn(4, 48), torch.randn(4, 24)

    published = model(context=context, target=target).loss / 24  # theirs sums over the horizon

    torch.testing.assert_close(window_loss(model, WindowBatch(context, target)).mean(), published)
