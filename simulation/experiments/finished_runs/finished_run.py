"""A finished and evaluated run: its record, its adapter, and its scores by site and patient.

A run folder holds nothing of a single patient, and paired intervals need each patient's errors.
The adapter is therefore scored again, on the site tables whose digests evaluation.json records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.backbones.base import ModelForecaster
from common.backbones.lora import merged_model
from common.errors import CohortError, UsageError
from common.evaluation.evaluate import Evaluation, evaluate
from common.files.hashing import file_sha256
from server.release.adapter_source import LoadedAdapter, load_adapter
from server.release.evaluation_data import evaluation_tables_of, read_evaluation_sites
from server.runs.run_folder import read_run_config
from server.runs.run_reader import RunRecord, read_run_record


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """An evaluated run.

    Attributes:
        folder: its folder.
        record: its settings, rounds and evaluation.
        loaded: its adapter with the frozen backbone.
        evaluation: content of evaluation.json.
    """

    folder: Path
    record: RunRecord
    loaded: LoadedAdapter
    evaluation: Mapping[str, Any]

    @property
    def tables(self) -> dict[str, str]:
        """SHA-256 of each site table of the evaluation, by site."""
        return {site: str(about["sha256"]) for site, about in self.evaluation["data"].items()}

    @property
    def epsilon(self) -> float | None:
        """The largest epsilon that a site spent; None for a run without privacy."""
        spent = [
            float(entry["privacy"]["epsilon"])
            for line in self.record.rounds
            for entry in line.get("sites", {}).values()
            if entry.get("privacy")
        ]
        return max(spent, default=None)

    @property
    def site_seconds(self) -> float:
        """Seconds of work at all sites together."""
        entries = (entry for line in self.record.rounds for entry in line.get("sites", {}).values())
        return float(sum(sum(entry.get("seconds", {}).values()) for entry in entries))

    @property
    def seconds(self) -> float:
        """Seconds of all rounds by the coordinator's clock."""
        return float(sum(line.get("seconds", 0.0) for line in self.record.rounds))


def read_finished_run(folder: Path) -> FinishedRun:
    """Read a run that has been evaluated.

    Raises:
        FederationError: the folder holds no run.
        UsageError: the run has no adapter yet, was not evaluated, or was evaluated with another
            adapter than the one it holds.
    """
    read_run_config(folder)  # "holds no run" rather than "is no run folder nor PEFT folder"
    loaded = load_adapter(folder)
    record = read_run_record(folder, loaded.adapter)
    evaluation = record.evaluation
    remedy = f"python -m server evaluate --adapter {folder} --data COHORT"
    if evaluation is None:
        raise UsageError(f"{folder} has not been evaluated; do so with: {remedy}")
    try:
        same = evaluation["adapter"]["digest"] == loaded.adapter.digest()
        windows = dict(evaluation["settings"])
        dict(evaluation["data"]), evaluation["pooled"]["models"]["adapter"], evaluation["split"]
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}/evaluation.json lacks {error}; evaluate again with: {remedy}"
        ) from error
    if not same:
        raise UsageError(
            f"{folder}/evaluation.json is of another adapter than the one released; evaluate "
            f"again with: {remedy}"
        )
    return FinishedRun(folder, record, load_adapter(folder, windows=windows), evaluation)


def find_tables(
    runs: Sequence[FinishedRun], sites: Sequence[str], data: Path | None
) -> dict[str, Path]:
    """Return the site tables that the runs were evaluated on, checked by their digests.

    Args:
        runs: runs with the same tables at these sites.
        sites: the sites.
        data: cohort folder or site table; None = the folders that the runs were trained on.

    Raises:
        UsageError: the tables are not there.
    """
    recorded = (str(run.record.settings.get("data", "")) for run in runs)
    folders = [data] if data else [Path(text) for text in dict.fromkeys(recorded) if text]
    for folder in folders:
        found = _tables_in(folder)
        if all(
            site in found and file_sha256(found[site]) == runs[0].tables[site] for site in sites
        ):
            return {site: found[site] for site in sites}
    looked = " and ".join(map(str, folders)) or "any folder that a run records"
    raise UsageError(
        f"the site tables that {runs[0].folder} was evaluated on (by their SHA-256) are not in "
        f"{looked}; give the cohort's folder with --data"
    )


def _tables_in(folder: Path) -> dict[str, Path]:
    try:
        return evaluation_tables_of(folder)
    except CohortError:
        return {}


def score_run(run: FinishedRun, tables: Mapping[str, Path]) -> dict[str, Evaluation]:
    """Score a run's adapter on the windows of its evaluation, by site."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frozen = run.loaded.loaded_backbone
    forecaster = ModelForecaster(
        frozen.backbone, merged_model(frozen, run.loaded.adapter).to(device)
    )
    scores = {}
    for site, path in tables.items():
        (read,) = read_evaluation_sites(
            path, run.evaluation["split"], run.loaded.config.windows, run.loaded.step_minutes
        ).values()
        if len(read.windows):
            scores[site] = evaluate(read.windows, forecaster)
    return scores
