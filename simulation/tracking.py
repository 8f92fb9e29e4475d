"""Logging of rounds and evaluations to TensorBoard or MLflow, read from the run folder.

The server always writes rounds.jsonl; a tracker reads its new lines. Only numbers that the sites
have already reported are logged. Without `--track` this module is not imported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from common.errors import UsageError
from common.names import check_name
from server.runs.run_folder import EVALUATION_FILE, TRACKER_FOLDER, read_rounds

TRACKERS = {"tensorboard": "tensorboard", "mlflow": "mlflow"}
"""Required package by tracker."""

Scalar = tuple[str, float, int]
"""Name, value and round."""


class _Sink(Protocol):
    """Destination of the scalars."""

    def add(self, name: str, value: float, step: int) -> None:
        """Log one scalar."""

    def close(self) -> None:
        """Flush and close."""


class Tracker:
    """Logger of one run.

    Args:
        kind: a key of `TRACKERS`.
        run: the run folder.
        settings: the run's settings as flat pairs, logged with the run.

    Raises:
        UsageError: the kind is unknown, or its package is not installed.
    """

    def __init__(self, kind: str, run: Path, settings: Mapping[str, Any]) -> None:
        package = TRACKERS[check_name("tracker", kind, TRACKERS)]
        if find_spec(package) is None:
            raise UsageError(f"--track {kind} needs the package {package}; pip install {package}")
        self._run = run
        self._seen = 0
        sinks: dict[str, Callable[[Path, Mapping[str, Any]], _Sink]] = {
            "tensorboard": _TensorBoard,
            "mlflow": _MLflow,
        }
        self._sink = sinks[kind](run, settings)

    def look(self) -> None:
        """Log the rounds that ended since the last look."""
        rounds = read_rounds(self._run)
        for record in rounds[self._seen :]:
            for scalar in round_scalars(record):
                self._sink.add(*scalar)
        self._seen = len(rounds)

    def finish(self) -> None:
        """Log the remaining rounds and the evaluation, if there is one."""
        self.look()
        path = self._run / EVALUATION_FILE
        if path.is_file():
            for scalar in evaluation_scalars(json.loads(path.read_text(encoding="utf-8"))):
                self._sink.add(*scalar)
        self._sink.close()


def round_scalars(record: Mapping[str, Any]) -> Iterator[Scalar]:
    """Yield the numbers of a line of rounds.jsonl.

    Validation belongs to the round whose adapter was validated, all else to the line's own round.
    """
    number, validated = int(record["round"]), int(record.get("validated_round", 0))
    if record.get("validation_wql") is not None:
        yield "validation/wql", float(record["validation_wql"]), validated
    if record.get("trained"):
        yield "learning_rate", float(record["learning_rate"]), number
    if "seconds" in record:
        yield "seconds", float(record["seconds"]), number
    for site, entry in sorted(record.get("sites", {}).items()):
        for name, value in sorted(entry.get("validation", {}).items()):
            yield f"validation/{site}/{name}", float(value), validated
        if entry.get("steps") and entry.get("loss") is not None:
            yield f"loss/{site}", float(entry["loss"]), number
        for name in ("bytes_sent", "bytes_received", "update_norm"):
            if name in entry:
                yield f"{name}/{site}", float(entry[name]), number
        if "epsilon" in entry.get("privacy", {}):
            yield f"epsilon/{site}", float(entry["privacy"]["epsilon"]), number


def evaluation_scalars(evaluation: Mapping[str, Any]) -> Iterator[Scalar]:
    """Yield the metrics of every model and vital of an evaluation.json, all at step 0."""
    split = evaluation["split"]
    for model, table in evaluation["pooled"]["models"].items():
        for vital, row in table["vitals"].items():
            for metric, value in row.items():
                if value is not None:
                    yield f"{split}/{metric}/{vital}/{model}", float(value), 0


class _TensorBoard:
    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Without the paths, since the log may be shared.
        shown = {key: value for key, value in settings.items() if key not in ("data", "out")}
        self._writer = SummaryWriter(str(run / TRACKER_FOLDER))
        text = "\n".join(f"    {key} = {value}" for key, value in shown.items())
        self._writer.add_text("settings", text, 0)

    def add(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    def __init__(self, run: Path, settings: Mapping[str, Any]) -> None:
        self._mlflow: Any = import_module("mlflow")  # optional, and without types if absent
        self._mlflow.set_experiment("fedvitals")
        self._mlflow.start_run(run_name=run.name)
        shown = {key: value for key, value in settings.items() if key not in ("data", "out")}
        self._mlflow.log_params(shown)

    def add(self, name: str, value: float, step: int) -> None:
        self._mlflow.log_metric(name, value, step=step)

    def close(self) -> None:
        self._mlflow.end_run()
