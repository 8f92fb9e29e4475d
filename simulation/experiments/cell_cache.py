"""Cells of an experiment and their cache: one model, trained with one seed and scored.

The cache key of a cell is a hash of the inputs of its results: the method, the settings that it
reads, the sites' own settings, and the digests of the site tables. Experiments with the same output
folder share cells, and an interrupted experiment resumes with the first unfinished one.

    OUT/cells/<key>/cell.json            inputs, facts and measurements
    OUT/cells/<key>/scores.safetensors   metric totals per test patient and vital, by site
    OUT/runs/<key>/                      the run folder of a federation
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from common.config.run_config import RunConfig, Value
from common.data.cohort_folder import site_table_paths
from common.errors import UsageError
from common.evaluation.evaluate import Evaluation
from common.files.atomic_io import atomic_folder
from common.files.hashing import file_sha256

CELL_FORMAT = 1
"""Part of every key. Raise it when cells are computed differently: older ones are then ignored."""

_CELL_FILE = "cell.json"
_SCORES_FILE = "scores.safetensors"
_IRRELEVANT = frozenset(
    {"data", "out", "resume", "statistics", "federation.wait-s", "federation.round-timeout-s"}
    # A task's settings are resolved, and the step length is only compared with the tables'.
    | {"task", "step-minutes"}
)
_PARTS = ("numerator", "denominator", "windows", "observed")

SiteSettings = Mapping[str, Mapping[str, Value]]
"""Settings of single sites, by site: see `client.app.node_config`."""


@dataclass(frozen=True)
class Cell:
    """One model to train and score.

    Attributes:
        arm: name of the arm that it belongs to; the cells of one arm differ in the seed only.
        method: a name in `simulation.experiments.models.registry.METHODS`.
        config: the settings; `config.data` is the cohort.
        own: the sites' own settings.
        options: options of the method, e.g. the learning rate of full fine-tuning.
        tested: the cohort whose test patients are forecast; empty = `config.data`.
    """

    arm: str
    method: str
    config: RunConfig
    own: SiteSettings = field(default_factory=dict)
    options: Mapping[str, Value] = field(default_factory=dict)
    tested: str = ""

    def with_seed(self, seed: int) -> Cell:
        """Return the cell with another seed; a fixed noise seed becomes the same number."""
        privacy = self.config.privacy
        if privacy.noise_seed >= 0:
            privacy = privacy.replace(noise_seed=seed)
        return replace(self, config=self.config.replace(seed=seed, privacy=privacy))

    def cache_inputs(self, reads: tuple[str, ...]) -> dict[str, Any]:
        """Return the inputs of the cell's results as plain values, for `cell_key`.

        Args:
            reads: prefixes of the settings that the method reads; ``("",)`` for all.
        """
        settings = {
            key: value
            for key, value in _resolved(self.config).items()
            if key not in _IRRELEVANT and key.startswith(reads)
        }
        return {
            "format": CELL_FORMAT,
            "method": self.method,
            "settings": settings,
            "weights": folder_digest(self.config.backbone) if "backbone" in settings else "",
            "own": {site: dict(values) for site, values in sorted(self.own.items())},
            "options": dict(self.options),
            "sites": table_digests(Path(self.config.data)),
            "tested": table_digests(Path(self.tested)) if self.tested else {},
        }


@dataclass(frozen=True, eq=False)
class CellResult:
    """Result of one cell.

    Attributes:
        scores: scores of the test patients, by site; patients are numbered, not named.
        facts: reproducible numbers: `parameters` trained, `bytes` exchanged, `rounds`,
            `best_round`, and those that a method adds.
        measured: numbers that vary between repetitions: `seconds` of training.
    """

    scores: dict[str, Evaluation]
    facts: dict[str, float] = field(default_factory=dict)
    measured: dict[str, float] = field(default_factory=dict)


SetStatus = Callable[[str], None]
"""Shows the current activity, in words."""

RunCell = Callable[[Cell, Path, SetStatus], CellResult]
"""Trains and scores a cell; the path is its run folder."""


def cell_key(inputs: Mapping[str, Any]) -> str:
    """Return the cache key: the first 20 hex digits of a SHA-256 over the inputs."""
    text = json.dumps(inputs, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def table_digests(data: Path) -> dict[str, str]:
    """Return the SHA-256 of each site table of a cohort.

    Raises:
        CohortError: the cohort has no site table.
    """
    return {
        site: _file_digest(path, path.stat().st_mtime_ns)
        for site, path in site_table_paths(data).items()
    }


def folder_digest(backbone: str) -> str:
    """Return the SHA-256 of a folder of weights; empty for a name, whose weights are pinned."""
    folder = Path(backbone)
    if not folder.is_dir():
        return ""
    files = sorted([*folder.glob("*.safetensors"), folder / "config.json"])
    digests = [_file_digest(path, path.stat().st_mtime_ns) for path in files if path.is_file()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def write_cell(folder: Path, inputs: Mapping[str, Any], result: CellResult) -> None:
    """Write a finished cell atomically.

    Raises:
        UsageError: the folder cannot be written.
    """
    metrics = {evaluation.metrics for evaluation in result.scores.values()}
    record = {
        "deciding": inputs,
        "metrics": list(metrics.pop()),
        "facts": result.facts,
        "measured": result.measured,
    }
    tensors = {
        f"{site}/{part}": np.ascontiguousarray(getattr(evaluation, part))
        for site, evaluation in result.scores.items()
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


def read_cell(folder: Path) -> CellResult | None:
    """Read a finished cell; None if it is absent or damaged and must be run again."""
    try:
        record = json.loads((folder / _CELL_FILE).read_text(encoding="utf-8"))
        tensors = load((folder / _SCORES_FILE).read_bytes())
        metrics = tuple(record["metrics"])
        sites = sorted({name.rpartition("/")[0] for name in tensors})
        scores = {site: _evaluation(site, metrics, tensors) for site in sites}
        return CellResult(scores, record["facts"], record["measured"])
    except (OSError, ValueError, KeyError, SafetensorError):
        return None


def without_names(evaluation: Evaluation) -> Evaluation:
    """Return an evaluation with patients numbered, so that no identifier is stored."""
    return replace(evaluation, patient_ids=_numbers(len(evaluation.patient_ids)))


def _evaluation(site: str, metrics: tuple[str, ...], tensors: Mapping[str, Any]) -> Evaluation:
    parts = {part: tensors[f"{site}/{part}"] for part in _PARTS}
    return Evaluation(patient_ids=_numbers(len(parts["windows"])), metrics=metrics, **parts)


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(str(number) for number in range(count))


def _resolved(config: RunConfig) -> dict[str, Value]:
    """Return the settings with ``auto`` resolved: a default spelled out is the same cell."""
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
    return file_sha256(path)
