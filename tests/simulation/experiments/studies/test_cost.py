from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from common.console import run
from simulation.cli import app
from simulation.experiments.studies.cost import Cost, cost_statement


def test_the_statement_is_the_range_of_the_ratios() -> None:
    costs = [
        Cost("a", 8, 10, 0.5, 100.0, 20.0, "a machine"),
        Cost("a", 0, 90, 1.0, 180.0, 80.0, "a machine"),
        Cost("b", 8, 10, 1.2, 100.0, 30.0, "a machine"),
        Cost("b", 0, 90, 2.0, 180.0, 60.0, "a machine"),
    ]
    said = cost_statement(costs).replace("\u00a0", " ")
    assert "On a machine, a LoRA step takes 50 to 60 % of the time" in said
    assert "25 to 50 % of the memory" in said


@pytest.mark.slow
def test_the_command_measures_each_once_and_names_the_device(
    tiny_bolt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cost", "--backbones", str(tiny_bolt), "--ranks", "2", "--steps", "2"]
    words += ["--out", str(tmp_path), "-c", "train.device=cpu"]
    assert run(app, words) == 0
    probes = sorted((tmp_path / "probes").glob("*.json"))
    with (tmp_path / "cost" / "cost.csv").open(encoding="utf-8") as file:
        lora, full = csv.DictReader(file)
    assert (lora["trained"], full["trained"]) == ("LoRA, rank 2", "all weights")
    assert int(lora["parameters"]) < int(full["parameters"])
    assert float(lora["step_s"]) > 0
    assert lora["device"] in (tmp_path / "cost" / "index.html").read_text(encoding="utf-8")
    assert lora["device"] in " ".join(capsys.readouterr().out.split())

    first = probes[0].read_text(encoding="utf-8")
    probes[0].write_text(json.dumps({**json.loads(first), "step_s": 123.0}))
    assert run(app, words) == 0
    assert "123" in (tmp_path / "cost" / "cost.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_backbone_that_is_not_there_ends_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["cost", "--backbones", "chronos-bolt-nanno", "--out", str(tmp_path)]
    assert run(app, words) == 9
    assert "did you mean 'chronos-bolt-nano'" in " ".join(capsys.readouterr().err.split())
