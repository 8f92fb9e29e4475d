"""The weights that the repository ships are those that their recipe and card describe."""

from __future__ import annotations

import csv
import json
import re

import pytest
import torch

from common.files.hashing import file_sha256
from simulation.pretraining import NANO_MODELS, default_folder
from simulation.pretraining.export import render_card
from simulation.pretraining.recipe import PretrainingRecipe

EVERY = sorted(NANO_MODELS)


@pytest.mark.parametrize("name", EVERY)
def test_recipe_is_the_one_in_the_code_and_names_the_file(name: str) -> None:
    folder = default_folder(name)
    record = json.loads((folder / "recipe.json").read_text())

    recipe = PretrainingRecipe.from_json(record["recipe"])
    assert recipe.to_json() == NANO_MODELS[name].recipe.to_json()
    assert record["sha256"]["model.safetensors"] == file_sha256(folder / "model.safetensors")
    assert record["series_drawn"] == recipe.series_count


@pytest.mark.parametrize("name", EVERY)
def test_folder_is_small_and_names_no_machine(name: str) -> None:
    folder = default_folder(name)

    assert (folder / "model.safetensors").stat().st_size < 4e6
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4.1e6
    for path in folder.iterdir():
        if path.suffix != ".safetensors":
            text = path.read_text()
            assert not re.findall(r"(?<![\w/:.)-])/\w+/", text), (
                "a path of the machine it was made on"
            )


@pytest.mark.parametrize("name", EVERY)
def test_training_log_ends_with_a_lower_held_out_loss(name: str) -> None:
    with (default_folder(name) / "training_log.csv").open() as stream:
        rows = list(csv.DictReader(stream))

    assert int(rows[-1]["step"]) == NANO_MODELS[name].recipe.steps
    assert len(rows) <= 110
    first, last = (float(rows[i]["held_out_synthetic_loss"]) for i in (0, -1))
    assert last < 0.95 * first


@pytest.mark.parametrize("name", EVERY)
def test_card_is_up_to_date_and_claims_no_prior_for_vital_signs(name: str) -> None:
    folder = default_folder(name)
    record = json.loads((folder / "recipe.json").read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())
    card = (folder / "README.md").read_text()

    assert card == render_card(NANO_MODELS[name], record, evaluation)
    assert card.startswith("---\nlicense: apache-2.0\n")
    for needed in (
        "no prior made for vital signs",
        "Not for clinical use",
        "CC BY 4.0, doi 10.13026/v64v-d857",
        "reporting only",
        record["sha256"]["model.safetensors"],
    ):
        assert needed in card
    assert evaluation["relative"]["zero_shot"]["geometric mean"]["mae"] < 1.0
    assert evaluation["relative"]["zero_shot"]["geometric mean"]["pinball"] < 1.0


def test_chronos_bolt_nano_loads_and_forecasts() -> None:
    from chronos import BaseChronosPipeline, ChronosBoltPipeline

    pipeline = BaseChronosPipeline.from_pretrained(default_folder("chronos-bolt-nano"))

    assert isinstance(pipeline, ChronosBoltPipeline)
    parameters = list(pipeline.model.parameters())
    assert sum(parameter.numel() for parameter in parameters) == 811_120
    assert all(parameter.dtype == torch.float32 for parameter in parameters)
    quantiles, median = pipeline.predict_quantiles(torch.arange(48.0)[None], 24)
    assert quantiles.shape == (1, 24, 9)
    assert float(median[0, -1]) > 47.0  # a rise is not forecast to fall below its last value
