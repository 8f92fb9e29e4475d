"""Evaluation of a global adapter against zero-shot and simple baselines, on the same windows.

The baselines, last value and weighted mean, take the spread of their forecasts from the training
patients of the very site that they are evaluated at. Neither the backbone nor the adapter sees
data of a site outside the federation, so the comparison favours the baselines, if anything. The
intervals are those of `common.evaluation.paired_difference`: patients are resampled, the training
is not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common.backbones.base import ModelForecaster
from common.backbones.lora import merged_model
from common.config.tasks import TASK_KEY, TASKS, first_metrics
from common.data.cohort_folder import read_characteristics, read_provenance
from common.data.splits import SPLITS
from common.data.vitals import VITALS
from common.errors import CohortError, FederationError, UsageError
from common.evaluation.baselines import ExponentiallyWeightedMean, LastValue
from common.evaluation.bootstrap import CONFIDENCE, DEFAULT_REPLICATES
from common.evaluation.calibration import calibrate
from common.evaluation.evaluate import (
    Evaluation,
    Forecaster,
    below_mape_floor,
    evaluate,
    pool_evaluations,
)
from common.evaluation.evaluate_sites import evaluate_sites
from common.evaluation.metrics import METRICS
from common.evaluation.paired_difference import compare
from common.files.atomic_io import write_text
from common.names import check_name
from common.reporting.phrasing import MODELS, REFERENCES
from common.reporting.small_cells import LEAST_COUNT, without_small_cells
from server.release.adapter_source import LoadedAdapter, load_adapter
from server.release.evaluation_data import EvaluationSite, read_evaluation_sites
from server.release.release import update_release
from server.report.example_forecasts import OPEN_SOURCES, Example, choose_examples
from server.runs.run_folder import EVALUATION_FILE, library_versions

SCHEMA_VERSION = 1
BOOTSTRAP_SEED = 0

Progress = Callable[[str], None]
"""Callback that receives a short text at every step."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """Finished evaluation.

    Attributes:
        result: content of evaluation.json: plain values, none of them a patient's.
        examples: forecasts for the report; empty unless they may be shown.
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
    export: Path | None = None,
) -> dict[str, Any]:
    """Evaluate a run's adapter, write evaluation.json and update the report and the model card.

    Args:
        run: a run folder with a released adapter; the adapter itself is not changed.
        data: a cohort folder (its ``sites/*.parquet``) or one site table.
        split: one of `common.data.splits.SPLITS`.
        examples: whether the report shows forecasts of single patients; None = only if all sites
            are of an open source.
        progress: receives each step.
        export: folder for the report's tables and figures as files; None for none.

    Returns:
        The content of evaluation.json.

    Raises:
        FedvitalsError: see `load_adapter` and `evaluate_adapter`.
        FederationError: the folder cannot be written.
    """
    loaded = load_adapter(run)
    if loaded.run is None:
        raise UsageError(f"{run} is a PEFT folder, expected a run folder")
    evaluation = evaluate_adapter(loaded, data, split, examples=examples, progress=progress)
    write_evaluation(evaluation.result, run)
    update_release(run, evaluation.examples, export)
    return evaluation.result


def evaluate_adapter(
    loaded: LoadedAdapter,
    data: Path,
    split: str = "test",
    *,
    examples: bool | None = None,
    progress: Progress | None = None,
) -> EvaluationResult:
    """Evaluate an adapter without writing anything.

    Args:
        loaded: the adapter, its backbone and settings.
        data: a cohort folder or one site table.
        split: one of `common.data.splits.SPLITS`.
        examples: as for `evaluate_run`.
        progress: receives each step.

    Raises:
        UsageError: an unknown split, or a time step other than the run's.
        CohortError: there is no site table, no window in the split, or the cohort's record cannot
            be read.
        SiteTableError: a table breaks the schema.
        AdapterError: the adapter does not fit the backbone.
        ForecastError: a forecast is not finite.
    """
    check_name("split", split, SPLITS)
    report_step = progress or (lambda _: None)
    report_step("reading the site tables")
    all_sites = read_evaluation_sites(data, split, loaded.config.windows, loaded.step_minutes)
    sites = {name: site for name, site in all_sites.items() if len(site.windows)}
    if not sites:
        raise CohortError(
            f"{data} has no window in the split {split}; its stays are too short or too sparse for "
            "windows.*, or none of its patients is in that split"
        )
    models = _models(loaded)
    scores = _score(sites, models, _metrics(loaded), report_step)
    report_step("resampling patients")
    result = _result(loaded, split, all_sites, scores) | {"cohort": _describe_cohort(data)}
    chosen: list[Example] = []
    if _shows_examples(examples, sites):
        report_step("choosing examples")
        windows = {name: site.windows for name, site in sites.items()}
        chosen = choose_examples(windows, models["adapter"], models["zero_shot"])
    return EvaluationResult(result, chosen)


def _models(loaded: LoadedAdapter) -> dict[str, Forecaster]:
    # `mps` lacks operations of some families; one forward pass is quick enough on the CPU.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frozen = loaded.loaded_backbone
    merged = merged_model(frozen, loaded.adapter)
    return {
        "adapter": ModelForecaster(frozen.backbone, merged.to(device)),
        "zero_shot": ModelForecaster(frozen.backbone, frozen.model.to(device)),
    }


def _metrics(loaded: LoadedAdapter) -> tuple[str, ...]:
    """Return all metrics, those of the run's task first."""
    if loaded.config.task not in TASKS:
        return tuple(METRICS)
    return tuple(dict.fromkeys((*first_metrics(loaded.config.flat()), *METRICS)))


def _score(
    sites: Mapping[str, EvaluationSite],
    models: Mapping[str, Forecaster],
    metrics: tuple[str, ...],
    report_step: Progress,
) -> dict[str, dict[str, Evaluation]]:
    """Evaluate every model at every site: by model, then by site, in the order of `MODELS`."""
    scores: dict[str, dict[str, Evaluation]] = {model: {} for model in MODELS}
    windows = {name: site.windows for name, site in sites.items()}
    for model, forecaster in models.items():
        report_step(MODELS[model].lower())
        scores[model] = evaluate_sites(windows, forecaster, metrics=metrics)
    for name, site in sites.items():
        report_step(f"{name}: baselines")
        for model, baseline in _baselines(site).items():
            scores[model][name] = evaluate(site.windows, baseline, metrics=metrics)
    return scores


def _baselines(site: EvaluationSite) -> dict[str, Forecaster]:
    return {
        baseline.name: baseline.fit(site.train)
        for baseline in (LastValue(), ExponentiallyWeightedMean())
    }


def _result(
    loaded: LoadedAdapter,
    split: str,
    sites: Mapping[str, EvaluationSite],
    scores: Mapping[str, Mapping[str, Evaluation]],
) -> dict[str, Any]:
    """Assemble the content of evaluation.json."""
    adapter, frozen = loaded.adapter, loaded.loaded_backbone
    pooled = {model: pool_evaluations(per_site) for model, per_site in scores.items()}
    settings = loaded.config.flat()
    shown = [key for key in settings if key.startswith("windows.")]
    shown += [TASK_KEY] if loaded.config.task in TASKS else []
    return {
        "schema_version": SCHEMA_VERSION,
        "split": split,
        "settings": {key: settings[key] for key in shown},
        "adapter": {"digest": adapter.digest(), "rank": adapter.rank, "alpha": adapter.alpha},
        "backbone": {
            "name": adapter.backbone,
            "family": frozen.backbone.family,
            "digest": frozen.digest,
        },
        "data": {name: _describe(site) for name, site in sites.items()},
        "bootstrap": {
            "replicates": DEFAULT_REPLICATES,
            "confidence": CONFIDENCE,
            "seed": BOOTSTRAP_SEED,
            "unit": "patient",
        },
        "mape_floors": _mape_floors(sites),
        "pooled": {**_compared(pooled), "calibration": _calibrated(pooled)},
        "sites": {
            name: _compared({model: per_site[name] for model, per_site in scores.items()})
            for name in scores["adapter"]
        },
        "versions": library_versions(frozen.backbone.family),
    }


def _mape_floors(sites: Mapping[str, EvaluationSite]) -> dict[str, Any]:
    """Return the floors of MAPE's denominator, and the target steps of all vitals below them.

    A small count is None: a value near zero may be a single patient's arrest.
    """
    below = sum(int(below_mape_floor(site.windows).sum()) for site in sites.values())
    return {
        "floors": {vital.name: vital.mape_floor for vital in VITALS},
        "steps_below": None if 0 < below < LEAST_COUNT else below,
    }


def _describe_cohort(data: Path) -> dict[str, Any] | None:
    """Return how the cohort was made and, of a prepared one, its patients without small cells."""
    cohort = read_provenance(data)
    characteristics = read_characteristics(data)
    if cohort is None or characteristics is None:
        return cohort
    try:
        return cohort | {"characteristics": without_small_cells(characteristics)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CohortError(
            f"{data} has characteristics that cannot be read ({error!r}); prepare the cohort again "
            "with --overwrite"
        ) from error


def _describe(site: EvaluationSite) -> dict[str, Any]:
    return {
        "sha256": site.sha256,
        "source": site.info.source,
        "rule": site.info.cohort_rule,
        "step_minutes": site.info.step_minutes,
        **({"split_rule": site.info.split_rule} if site.info.split_rule else {}),
        "patients": len(site.windows.patient_ids),
        "windows": len(site.windows),
    }


def _compared(models: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return the metrics of each model and the adapter's differences to each reference."""
    return {
        "models": {model: evaluation.table() for model, evaluation in models.items()},
        "differences": {
            reference: compare(models["adapter"], models[reference], seed=BOOTSTRAP_SEED).to_json()
            for reference in REFERENCES
        },
    }


def _calibrated(models: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Return the calibration of the adapter and of the backbone without it."""
    return {
        model: calibrate(models[model], seed=BOOTSTRAP_SEED).to_json()
        for model in ("zero_shot", "adapter")
    }


def _shows_examples(requested: bool | None, sites: Mapping[str, EvaluationSite]) -> bool:
    if requested is not None:
        return requested
    return all(site.info.source in OPEN_SOURCES for site in sites.values())


def write_evaluation(result: Mapping[str, Any], folder: Path) -> Path:
    """Write evaluation.json into a folder and return its path.

    Raises:
        FederationError: it cannot be written.
    """
    path = folder / EVALUATION_FILE
    # Keys keep their order: vitals as in the site table, models as in every table.
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    try:
        write_text(path, text + "\n")
    except OSError as error:
        raise FederationError(
            f"{path} cannot be written ({error.strerror or error}); free space or give another "
            "folder with --out, then run `python -m server evaluate` to write it again"
        ) from error
    return path
