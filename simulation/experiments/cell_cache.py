"""A cell of an experiment: one model trained with one seed and scored on the test patients.

A cell is named by a hash of what decides its numbers: the method, the settings that it reads, what
single sites set for themselves, and the digests of the site tables. Experiments that share an
output folder therefore share cells, and one that was interrupted goes on where it was.

    OUT/cells/<key>/cell.json            what it is, what it cost
    OUT/cells/<key>/scores.safetensors   metric totals per test patient and vital, by site
    OUT/runs/<key>/                      the run folder of a federation
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.atomic_io import atomic_folder
from common.config.run_config import RunConfig, Value
from common.data.cohort_folder import site_table_paths
from common.errors import UsageError
from common.evaluation.evaluate import Evaluation

FORMAT = 1
"""Part of every key: a release that computes cells otherwise raises it, and old ones are left."""

_CELL_FILE = "cell.json"
_SCORES_FILE = "scores.safetensors"
_IRRELEVANT = frozenset(
    {"data", "out", "resume", "federation.wait-s", "federation.round-timeout-s"}
)
_PARTS = ("numerator", "denominator", "windows", "observed")

Own = Mapping[str, Mapping[str, Value]]
"""What single sites set for themselves, by site: see `client.app.node_config`."""


@dataclass(frozen=True)
class Cell:
    """What is trained and scored.

    Attributes:
        arm: what the experiment compares; the seeds of one arm differ in nothing else.
        method: a name in `simulation.experiments.models.registry.METHODS`.
        config: the settings; `config.data` is the cohort.
        own: the sites' own settings.
        options: the method's own, e.g. the learning rate of full fine-tuning.
        tested: the cohort whose test patients are forecast; empty = that of `config.data`.
    """

    arm: str
    method: str
    config: RunConfig
    own: Own = field(default_factory=dict)
    options: Mapping[str, Value] = field(default_factory=dict)
    tested: str = ""

    def with_seed(self, seed: int) -> Cell:
        """Return the cell of another seed; a noise that is to be repeated gets that seed too."""
        privacy = self.config.privacy
        if privacy.noise_seed >= 0:
            privacy = privacy.replace(noise_seed=seed)
        return replace(self, config=self.config.replace(seed=seed, privacy=privacy))

    def deciding(self, reads: tuple[str, ...]) -> dict[str, Any]:
        """Return what decides the cell's numbers, as plain values.

        Args:
            reads: beginnings of the settings that the method reads; ``("",)`` for all.
        """
        settings = {
            key: value
            for key, value in _resolved(self.config).items()
            if key not in _IRRELEVANT and key.startswith(reads)
        }
        return {
            "format": FORMAT,
            "method": self.method,
            "settings": settings,
            "weights": weights_digest(self.config.backbone) if "backbone" in settings else "",
            "own": {site: dict(values) for site, values in sorted(self.own.items())},
            "options": dict(self.options),
            "sites": table_digests(Path(self.config.data)),
            "tested": table_digests(Path(self.tested)) if self.tested else {},
        }


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a cell came to.

    Attributes:
        scores: of the test patients, by site; patients are numbered, not named.
        facts: what is the same at every repetition: `parameters` trained, `bytes` exchanged,
            `rounds`, `best_round`, and what a method adds.
        measured: what is not: `seconds` of training.
    """

    scores: dict[str, Evaluation]
    facts: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


def cell_key(deciding: Mapping[str, Any]) -> str:
    """Return the name of a cell: the beginning of a SHA-256 over what decides it."""
    text = json.dumps(deciding, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def table_digests(data: Path) -> dict[str, str]:
    """Return the SHA-256 of each site table of a cohort.

    Raises:
        CohortError: where it has none.
    """
    return {
        site: _file_digest(path, path.stat().st_mtime_ns)
        for site, path in site_table_paths(data).items()
    }


def weights_digest(backbone: str) -> str:
    """Return the SHA-256 of a folder of weights; empty for a name, whose weights are pinned."""
    folder = Path(backbone)
    if not folder.is_dir():
        return ""
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
    digests = [_file_digest(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def write_outcome(folder: Path, deciding: Mapping[str, Any], outcome: Outcome) -> None:
    """Write a finished cell, whole or not at all.

    Raises:
        UsageError: where the folder cannot be written.
    """
    metrics = {evaluation.metrics for evaluation in outcome.scores.values()}
    record = {
        "deciding": deciding,
        "metrics": list(metrics.pop()),
        "facts": outcome.facts,
        "measured": outcome.measured,
    }
    tensors = {
        f"{site}/{part}": np.ascontiguousarray(getattr(evaluation, part))
        for site, evaluation in outcome.scores.items()
        for part in _PARTS
    }
    try:
        with atomic_folder(folder) as partial:
            text = json.dumps(record, indent=2, sort_keys=True, allow_nan=False) + "\n"
            (partial / _CELL_FILE).write_text(text, encoding="utf-8")
            (partial / _SCORES_FILE).write_bytes(save(tensors))
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be written ({error.strerror or error}); free space or give another "
            "folder with --out"
        ) from error


def read_outcome(folder: Path) -> Outcome | None:
    """Read a finished cell; None where it is not there or was damaged, and is to be run again."""
    try:
        record = json.loads((folder / _CELL_FILE).read_text(encoding="utf-8"))
        tensors = load((folder / _SCORES_FILE).read_bytes())
        metrics = tuple(record["metrics"])
        sites = sorted({name.rpartition("/")[0] for name in tensors})
        scores = {site: _evaluation(site, metrics, tensors) for site in sites}
        return Outcome(scores, record["facts"], record["measured"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


def without_names(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation whose patients are numbered: what is kept names nobody."""
    return replace(evaluation, patient_ids=_numbers(len(evaluation.patient_ids)))


def _evaluation(site: str, metrics: tuple[str, ...], tensors: Mapping[str, Any]) -> Evaluation:
    parts = {part: tensors[f"{site}/{part}"] for part in _PARTS}
    return Evaluation(patient_ids=_numbers(len(parts["windows"])), metrics=metrics, **parts)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _resolved(config: RunConfig) -> dict[str, Value]:
    """The settings with ``auto`` resolved, so that a default spelled out is the same cell."""
    settings = config.flat()
    settings["aggregation.rule"] = config.rule
    settings["lora.train"] = config.trained
    if config.weighting != "fixed":
        settings["federation.weights"] = config.weighting
    if config.privacy.on:
        return settings
    return {key: value for key, value in settings.items() if not key.startswith("privacy.")}


@lru_cache(maxsize=256)
def _file_digest(path: Path, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
