from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from common.console import run
from common.errors import UsageError
from simulation.cli import app
from simulation.tracking import Tracker, evaluation_scalars, round_scalars

ROUND: dict[str, Any] = {
    "round": 2,
    "trained": True,
    "learning_rate": 0.003,
    "validated_round": 1,
    "validation_wql": 0.07,
    "seconds": 1.5,
    "sites": {
        "ccu": {"loss": 0.5, "steps": 3, "bytes_sent": 10, "validation": {"wql": 0.08}},
        "micu": {"refused": "too late", "bytes_sent": 10},
    },
}


def test_validation_belongs_to_the_round_that_was_validated() -> None:
    scalars = {name: (value, step) for name, value, step in round_scalars(ROUND)}
    assert scalars == {
        "validation/wql": (0.07, 1),
        "validation/ccu/wql": (0.08, 1),
        "learning_rate": (0.003, 2),
        "seconds": (1.5, 2),
        "loss/ccu": (0.5, 2),
        "bytes_sent/ccu": (10.0, 2),
        "bytes_sent/micu": (10.0, 2),
    }


def test_an_evaluation_gives_every_defined_metric() -> None:
    models = {"adapter": {"vitals": {"mbp": {"mae": 3.0, "dtw": None}}}}
    evaluation = {"split": "test", "pooled": {"models": models}}
    assert list(evaluation_scalars(evaluation)) == [("test/mae/mbp/adapter", 3.0, 0)]


def test_rounds_are_logged_once_while_the_file_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[tuple[str, float, int]] = []
    mlflow = ModuleType("mlflow")
    mlflow.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("mlflow", None)
    given: dict[str, Any] = {}
    for name, call in {
        "set_experiment": lambda name: None,
        "start_run": lambda run_name: None,
        "log_params": given.update,
        "log_metric": lambda name, value, step: logged.append((name, value, step)),
        "end_run": lambda: given.update(ended=True),
    }.items():
        setattr(mlflow, name, call)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    tracker = Tracker("mlflow", tmp_path, {"rounds": 2, "data": "/secret"})
    tracker.look()
    (tmp_path / "rounds.jsonl").write_text(json.dumps(ROUND) + "\n")
    tracker.look()
    once = len(logged)
    tracker.look()
    tracker.finish()
    assert len(logged) == once == 7
    assert given == {"rounds": 2, "ended": True}


def test_what_is_not_installed_or_unknown_is_said() -> None:
    with pytest.raises(UsageError, match="did you mean 'tensorboard'"):
        Tracker("tensorbord", Path(), {})
    with pytest.raises(UsageError, match="needs the package mlflow"):
        Tracker("mlflow", Path(), {})


@pytest.mark.slow
def test_a_run_can_be_followed_in_tensorboard(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["run", "--data", str(tiny_cohort), "--out", str(tmp_path / "run"), "--rounds", "2"]
    words += ["--backbone", str(tiny_bolt), "-c", "lora.rank=2", "-c", "windows.context=24"]
    assert run(app, [*words, "-c", "train.steps=1", "--track", "tensorboard"]) == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("validation/wql")] == [0, 1, 2]
    assert [event.step for event in events.Scalars("loss/ccu")] == [1, 2]
    assert events.Scalars("test/mae/heart_rate/adapter")
