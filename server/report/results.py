"""Results section: metrics per vital and per site, against zero-shot and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.config.tasks import changed_of_task, first_metrics
from common.evaluation.metrics import METRICS
from common.reporting.cells import bracketed, decimal
from common.reporting.components import (
    Figure,
    Part,
    Row,
    Section,
    Table,
    difference,
    raw_html,
    unit_difference,
)
from common.reporting.phrasing import (
    MODELS,
    NOTHING,
    SPLIT_WORDS,
    VITAL_LABELS,
    VITAL_UNITS,
    WORSE,
    clean_line,
    listed,
    verdict,
)
from common.reporting.small_cells import LEAST_COUNT
from common.reporting.svg import differences_figure

_ORDER: tuple[str, ...] = ("adapter", "zero_shot", "ewm", "last_value")
"""Models in the order of a table's columns: a phone shows the first ones without scrolling."""

_DIGITS = {"wql": 4, "coverage_80": 3, "mse": 2, "mape": 2}

_MINUS_MODEL = "Adapter − {}"  # noqa: RUF001
_IN_UNIT = f"{_MINUS_MODEL.format('zero-shot')}, in the unit"

_METRICS = """\
WQL is the weighted quantile loss over the levels 0.1 to 0.9, without a unit; MAE is the mean
absolute error of the median forecast, in the vital's unit. For both, lower is better. The mean over
vitals is unweighted and taken of relative differences, because the vitals' units differ."""

_TASK_METRICS = """\
MSE is the mean squared error of the median forecast, in the vital's unit squared; MAPE its mean
absolute error in per cent of the observed value; DTW its time-normalised dynamic time warping
distance, in the vital's unit, at most the MAE. Published values of MSE and DTW are often of values
scaled to 0..1 and summed over the horizon; they are not to be compared with these."""

_INTERVALS = """\
In brackets: 95 % intervals from a bootstrap over patients, with all windows of a patient drawn
together and both models on the same draw. They do not include the variation between training runs
with other seeds. Colour marks an interval that excludes zero. The intervals are not corrected for
looking at several vitals and sites. Fewer than 10 patients have no interval."""

_BASELINES = """\
The forecasts of last value and weighted mean (weight 0.35) take their spread from the errors on the
training patients of the site where they are evaluated; a vital without such windows has none."""


def results_section(evaluation: Mapping[str, Any] | None) -> Section:
    """Return the section; without an evaluation, the command that makes one."""
    if evaluation is None:
        missing = Part(
            paragraphs=["This adapter has not been evaluated on test patients yet."],
            code="python -m server evaluate --adapter RUN --data COHORT",
        )
        return Section("results", "Results", [missing])
    pooled = evaluation["pooled"]
    mean = pooled["models"]["adapter"]["mean"]
    intro = (
        f"{mean['patients']:,} {SPLIT_WORDS[evaluation['split']]}; {mean['windows']:,} windows, "
        "the same ones for every model."
    )
    first = first_metrics(evaluation.get("settings", {}))
    figures = [_difference_figure(pooled, metric) for metric in first]
    tables = [_vital_table(pooled, metric) for metric in first]
    others = [_vital_table(pooled, name) for name in METRICS if name not in first]
    parts = [
        Part(paragraphs=[intro], figures=figures),
        Part("Per vital sign", tables=tables, folded_title="All other metrics", folded=others),
        _site_part(evaluation),
        Part(
            notes=[
                *_task_note(evaluation),
                _METRICS,
                *_mape_note(evaluation),
                _INTERVALS,
                _BASELINES,
            ]
        ),
    ]
    return Section("results", "Results", parts)


def _task_note(evaluation: Mapping[str, Any]) -> list[str]:
    """Return how the metrics of a task are computed; empty where the run has none."""
    settings = evaluation.get("settings", {})
    if "task" not in settings:
        return []
    changed = listed(
        f"{key} = {clean_line(own)} in place of {clean_line(value)}"
        for key, (own, value) in changed_of_task(
            {"step-minutes": _step_minutes(evaluation), **settings}
        ).items()
    )
    task = f"This is the task {clean_line(settings['task'])}" + (
        f", with other settings: {changed}. " if changed else ". "
    )
    return [task + _TASK_METRICS]


def _step_minutes(evaluation: Mapping[str, Any]) -> int:
    return min(int(site["step_minutes"]) for site in evaluation["data"].values())


def _mape_note(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the floors of MAPE's denominator and the steps below them; empty for older files."""
    found = evaluation.get("mape_floors")
    if found is None:
        return []
    floors = listed(
        f"{found['floors'][name]:g} {VITAL_UNITS[name]} ({VITAL_LABELS[name].lower()})"
        for name in evaluation["pooled"]["models"]["adapter"]["vitals"]
    )
    steps = found["steps_below"]
    count = f"fewer than {LEAST_COUNT}" if steps is None else f"{steps:,}"
    return [
        "MAPE divides an error by the observed value, or by a floor where that is larger: "
        f"{floors}. Observed steps below their floor: {count}."
    ]


def _difference_figure(pooled: Mapping[str, Any], metric: str) -> Figure:
    differences = pooled["differences"]["zero_shot"]
    rows = {"Mean over vitals": differences["mean"][metric]["relative"]}
    rows |= {
        VITAL_LABELS[vital]: row[metric]["relative"] for vital, row in differences["vitals"].items()
    }
    label = METRICS[metric].label
    return Figure(
        f"{label}: the adapter against zero-shot",
        "Relative difference with its 95 % interval; left of zero the adapter is better.",
        raw_html(differences_figure(rows, label)),
    )


def _vital_table(pooled: Mapping[str, Any], metric: str) -> Table:
    models, differences = pooled["models"], pooled["differences"]
    shown = METRICS[metric]
    digits = _DIGITS.get(metric, 3)
    unit = {vital: shown.unit.replace("vital", VITAL_UNITS[vital]) for vital in VITAL_UNITS}
    rows = [
        Row(
            VITAL_LABELS[vital],
            [
                *_both(differences["zero_shot"]["vitals"][vital][metric], metric),
                *(decimal(models[model]["vitals"][vital][metric], digits) for model in _ORDER),
                _compared(differences["last_value"]["vitals"][vital][metric], metric),
            ],
            unit=unit[vital],
        )
        for vital in models["adapter"]["vitals"]
    ]
    # A mean of mmHg and degrees has no meaning.
    means = [
        NOTHING if shown.has_dimension else decimal(models[model]["mean"][metric], digits)
        for model in _ORDER
    ]
    compared = _both(differences["zero_shot"]["mean"][metric], metric)
    against_last = _compared(differences["last_value"]["mean"][metric], metric)
    rows.append(Row("Mean over vitals", [*compared, *means, against_last], mean=True))
    against = _MINUS_MODEL if metric == "coverage_80" else "Adapter vs {}"
    header = [
        "Vital sign",
        *([_IN_UNIT] if shown.has_dimension else []),
        against.format("zero-shot"),
        *(MODELS[model] for model in _ORDER),
        against.format("last value"),
    ]
    aim = "" if shown.lower_is_better else f", best at {shown.ideal:g}"
    return Table(f"{shown.label} per vital sign{aim}", header, rows)


def _both(entry: Mapping[str, Any], metric: str) -> list[str]:
    """Return the difference in the vital's unit, if the metric has one, and that in per cent."""
    relative = _compared(entry, metric)
    if not METRICS[metric].has_dimension:
        return [relative]
    absolute = entry["absolute"]
    digits = _DIGITS.get(metric, 2)
    return [NOTHING if absolute is None else unit_difference(absolute, digits), relative]


def _compared(entry: Mapping[str, Any], metric: str) -> str:
    if metric != "coverage_80":
        return difference(entry["relative"])
    # A higher or lower coverage is neither good nor bad in itself, so there is no colour.
    return bracketed(entry["absolute"] or {})


def _site_part(evaluation: Mapping[str, Any]) -> Part:
    sites = evaluation["sites"]
    worse = [
        clean_line(name)
        for name, site in sites.items()
        if verdict(site["differences"]["zero_shot"]["mean"]["wql"]["relative"]) == WORSE
    ]
    warning = (
        f"At {listed(worse)} the adapter's WQL is higher than that of the backbone without it: "
        "there the adapter makes forecasts worse."
        if worse
        else ""
    )
    empty = [clean_line(name) for name in evaluation["data"] if name not in sites]
    note = f"Without a window in this split: {listed(empty)}." if empty else ""
    return Part(
        "Per site",
        warnings=[warning] if warning else [],
        tables=[_site_table(sites, first_metrics(evaluation.get("settings", {})))],
        folded_title="Per site and vital sign",
        folded=[_site_vital_table(sites, first_metrics(evaluation.get("settings", {})))],
        notes=[note] if note else [],
    )


def _site_table(sites: Mapping[str, Any], first: Sequence[str]) -> Table:
    """Return every site's WQL of all models, and the adapter's differences to zero-shot.

    Args:
        sites: the sites' results, by name.
        first: the metrics of the differences.
    """
    rows = []
    for name, site in sites.items():
        models, differences = site["models"], site["differences"]["zero_shot"]["mean"]
        counts = models["adapter"]["mean"]
        rows.append(
            Row(
                clean_line(name),
                [
                    *(difference(differences[m]["relative"]) for m in first),
                    f"{counts['patients']:,}",
                    f"{counts['windows']:,}",
                    *(decimal(models[model]["mean"]["wql"], 4) for model in _ORDER),
                ],
            )
        )
    header = [
        "Site",
        *(f"{METRICS[m].label}, adapter vs zero-shot" for m in first),
        "Patients",
        "Windows",
        *(f"WQL, {MODELS[model].lower()}" for model in _ORDER),
    ]
    return Table("In the mean over vital signs", header, rows)


def _site_vital_table(sites: Mapping[str, Any], first: Sequence[str]) -> Table:
    """Return every vital's first metric at every site with and without the adapter.

    Args:
        sites: the sites' results, by name.
        first: the metrics of the differences; values are given for the first of them.
    """
    shown, *others = first
    digits = _DIGITS.get(shown, 3)
    rows = []
    for name, site in sites.items():
        models, differences = site["models"], site["differences"]["zero_shot"]["vitals"]
        for vital, row in models["adapter"]["vitals"].items():
            rows.append(
                Row(
                    f"{clean_line(name)}: {VITAL_LABELS[vital].lower()}",
                    [
                        *_both(differences[vital][shown], shown),
                        *(difference(differences[vital][m]["relative"]) for m in others),
                        *(
                            decimal(models[model]["vitals"][vital][shown], digits)
                            for model in ("adapter", "zero_shot")
                        ),
                        f"{row['patients']:,}",
                        f"{row['windows']:,}",
                    ],
                    unit=METRICS[shown].unit.replace("vital", VITAL_UNITS[vital]),
                )
            )
    label = METRICS[shown].label
    header = [
        "Site and vital sign",
        f"{label}, {_IN_UNIT[0].lower()}{_IN_UNIT[1:]}",
        *(f"{METRICS[m].label}, adapter vs zero-shot" for m in first),
        *(f"{label}, {MODELS[model].lower()}" for model in ("adapter", "zero_shot")),
        "Patients",
        "Windows",
    ]
    return Table("Every vital sign at every site", header, rows)
