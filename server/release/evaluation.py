"""The global adapter against zero-shot and simple baselines, on the same windows of every site.

Last value and weighted mean take the spread of their forecasts from the training patients of the
very site that they are evaluated at, which neither the backbone nor the adapter is given of a site
outside the federation: the comparison favours the baselines, if anyone. The intervals are those of
`common.evaluation.paired_difference`: patients are resampled, the training is not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.atomic_io import write_text
from common.backbones.base import ModelForecaster
from common.backbones.loading import LoadedBackbone
from common.backbones.lora import merged_model
from common.data.cohort_folder import read_provenance
from common.data.splits import SPLITS
from common.errors import CohortError, FederationError, UsageError
from common.evaluation.baselines import ExponentiallyWeightedMean, LastValue
from common.evaluation.bootstrap import CONFIDENCE, DEFAULT_REPLICATES
from common.evaluation.calibration import calibrate
from common.evaluation.evaluate import Evaluation, Forecaster, evaluate, pool_evaluations
from common.evaluation.metrics import METRICS
from common.evaluation.paired_difference import compare
from common.names import check_name
from common.reporting.phrasing import MODELS, REFERENCES
from server.release.adapter_source import Subject, load_subject
from server.release.evaluation_data import Site, read_sites
from server.release.release import renew
from server.report.example_forecasts import OPEN_SOURCES, Example, choose_examples
from server.runs.run_folder import EVALUATION_FILE, library_versions

SCHEMA_VERSION = 1
BOOTSTRAP_SEED = 0

Progress = Callable[[str], None]
"""Told in words what is being done."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """An evaluation, finished.

    Attributes:
        result: what evaluation.json holds: plain values, none of them a patient's.
        examples: forecasts to show; empty unless asked for.
    """

    result: dict[str, Any]
    examples: list[Example] = field(default_factory=list)


def evaluate_run(
    run: Path,
    data: Path,
    split: str = "test",
    *,
    examples: bool | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a run's adapter, write evaluation.json and renew the report and the model card.

    Args:
        run: a run folder with a released adapter; the adapter's own bytes stay as they are.
        data: a cohort folder (its ``sites/*.parquet``) or one site table.
        split: whose windows.
        examples: whether the report shows forecasts of single patients; None = only where all
            sites are of an open source.
        progress: told what is being done.

    Returns:
        What evaluation.json holds.

    Raises:
        FedvitalsError: see `load_subject` and `evaluate_subject`; FederationError where the
            folder cannot be written.
    """
    subject = load_subject(run)
    if subject.run is None:
        raise UsageError(f"{run} is a PEFT folder, expected a run folder")
    outcome = evaluate_subject(subject, data, split, examples=examples, progress=progress)
    write_result(outcome.result, run)
    renew(run, outcome.examples)
    return outcome.result


def evaluate_subject(
    subject: Subject,
    data: Path,
    split: str = "test",
    *,
    examples: bool | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Evaluate an adapter and write nothing.

    Args:
        subject: the adapter, its backbone and settings.
        data: a cohort folder or one site table.
        split: one of `common.data.splits.SPLITS`.
        examples: as for `evaluate_run`.
        progress: told what is being done.

    Raises:
        UsageError: an unknown split, or a time step that is not the run's.
        CohortError: there is no site table, no window in the split, or the cohort's record cannot
            be read.
        SiteTableError, AdapterError, BackboneError, ForecastError: as their names say.
    """
    check_name("split", split, SPLITS)
    say = progress or (lambda _: None)
    say("reading the site tables")
    every = read_sites(data, split, subject.config.windows, subject.step_minutes)
    sites = {name: site for name, site in every.items() if len(site.windows)}
    if not sites:
        raise CohortError(
            f"{data} has no window in the split {split}; its stays are too short or too sparse for "
            "windows.*, or none of its patients is in that split"
        )
    models = _models(subject)
    scores = _score(sites, models, say)
    say("resampling patients")
    result = _result(subject, split, every, scores) | {"cohort": read_provenance(data)}
    chosen: list[Example] = []
    if _shows_examples(examples, sites):
        say("choosing examples")
        windows = {name: site.windows for name, site in sites.items()}
        chosen = choose_examples(windows, models["adapter"], models["zero_shot"])
    return Outcome(result, chosen)


def write_result(result: Mapping[str, Any], folder: Path) -> Path:
    """Write evaluation.json into a folder and return its path.

    Raises:
        FederationError: where it cannot be written.
    """
    path = folder / EVALUATION_FILE
    # In the order as built: vitals as in the site table, models as in every table.
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        write_text(path, text + "\n")
    except OSError as error:
        raise FederationError(
            f"{path} cannot be written ({error.strerror or error}); free space or give another "
            "folder with --out"
        ) from error
    return path


def _score(
    sites: Mapping[str, Site], models: Mapping[str, Forecaster], say: Progress
) -> dict[str, dict[str, Evaluation]]:
    """Evaluate every model at every site: by model, then by site, in the order of `MODELS`."""
    scores: dict[str, dict[str, Evaluation]] = {model: {} for model in MODELS}
    for name, site in sites.items():
        for model, forecaster in {**models, **_baselines(site)}.items():
            say(f"{name}: {MODELS[model].lower()}")
            scores[model][name] = evaluate(site.windows, forecaster, metrics=tuple(METRICS))
    return scores


def _models(subject: Subject) -> dict[str, Forecaster]:
    # `mps` lacks operations of some families; one forward pass is quick enough on the CPU.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded: LoadedBackbone = subject.loaded
    merged = merged_model(loaded, subject.adapter)
    return {
        "adapter": ModelForecaster(loaded.backbone, merged.to(device)),
        "zero_shot": ModelForecaster(loaded.backbone, loaded.model.to(device)),
    }


def _baselines(site: Site) -> dict[str, Forecaster]:
    return {
        baseline.name: baseline.fit(site.train)
        for baseline in (LastValue(), ExponentiallyWeightedMean())
    }


def _shows_examples(asked: bool | None, sites: Mapping[str, Site]) -> bool:
    if asked is not None:
        return asked
    return all(site.info.source in OPEN_SOURCES for site in sites.values())


def _result(
    subject: Subject,
    split: str,
    sites: Mapping[str, Site],
    scores: Mapping[str, Mapping[str, Evaluation]],
) -> dict[str, Any]:
    """Put together what evaluation.json holds."""
    adapter, loaded = subject.adapter, subject.loaded
    pooled = {model: pool_evaluations(per_site) for model, per_site in scores.items()}
    settings = subject.config.flat()
    return {
        "schema_version": SCHEMA_VERSION,
        "split": split,
        "settings": {key: settings[key] for key in settings if key.startswith("windows.")},
        "adapter": {"digest": adapter.digest(), "rank": adapter.rank, "alpha": adapter.alpha},
        "backbone": {
            "name": adapter.backbone,
            "family": loaded.backbone.family,
            "digest": loaded.digest,
        },
        "data": {name: _describe(site) for name, site in sites.items()},
        "bootstrap": {
            "replicates": DEFAULT_REPLICATES,
            "confidence": CONFIDENCE,
            "seed": BOOTSTRAP_SEED,
            "unit": "patient",
        },
        "pooled": {**_compared(pooled), "calibration": _calibrated(pooled)},
        "sites": {
            name: _compared({model: per_site[name] for model, per_site in scores.items()})
            for name in scores["adapter"]
        },
        "versions": library_versions(loaded.backbone.family),
    }


def _calibrated(models: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Give what became of the quantiles of the adapter and of the backbone without it."""
    return {
        model: calibrate(models[model], seed=BOOTSTRAP_SEED).to_json()
        for model in ("zero_shot", "adapter")
    }


def _describe(site: Site) -> dict[str, Any]:
    return {
        "sha256": site.sha256,
        "source": site.info.source,
        "rule": site.info.cohort_rule,
        "step_minutes": site.info.step_minutes,
        "patients": len(site.windows.patient_ids),
        "windows": len(site.windows),
    }


def _compared(models: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Give the table of each model and the adapter's differences to each reference."""
    return {
        "models": {model: evaluation.table() for model, evaluation in models.items()},
        "differences": {
            reference: compare(models["adapter"], models[reference], seed=BOOTSTRAP_SEED).to_json()
            for reference in REFERENCES
        },
    }
