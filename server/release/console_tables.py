"""Console tables of an evaluation: the headline, then per vital, then per site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from common.config.tasks import DEFAULT_METRICS, first_metrics
from common.evaluation.metrics import METRICS
from common.reporting.phrasing import (
    BETTER,
    MODELS,
    NOTHING,
    UNCLEAR,
    UNKNOWN,
    VITAL_LABELS,
    VITAL_UNITS,
    WORSE,
    IntervalJson,
    bounds,
    number,
    percent,
    verdict,
)
from server.runs.run_reader import by_name

# Short labels, so that a vital with its unit fits on one line of 100 columns.
_MODEL_COLUMNS = {**MODELS, "last_value": "Last", "ewm": "EWM", "adapter": "Adapter"}
_REFERENCE_COLUMNS = {"zero_shot": "zero-shot", "last_value": "last value", "ewm": "weighted mean"}
_WORDS = {
    BETTER: "[green]better[/green]",
    WORSE: "[red]worse[/red]",
    UNCLEAR: "no clear difference",
    UNKNOWN: "too few patients",
}


def evaluation_tables(result: Mapping[str, Any]) -> list[Table]:
    """Return an evaluation as tables that fit into 100 columns.

    Args:
        result: the content of evaluation.json.
    """
    pooled = result["pooled"]
    metrics = _metrics(result)
    return [
        _headline(result, metrics),
        *(_vital_table(pooled, metric) for metric in metrics),
        _site_table(result["sites"], metrics),
    ]


def _metrics(result: Mapping[str, Any]) -> Sequence[str]:
    """Return the metrics of the tables: those of the task, else WQL and MAE."""
    first = first_metrics(result.get("settings", {}))
    return ("wql", "mae") if first == DEFAULT_METRICS else first


def _headline(result: Mapping[str, Any], metrics: Sequence[str]) -> Table:
    pooled = result["pooled"]
    counts = pooled["models"]["adapter"]["mean"]
    table = _table(
        f"Adapter, split {result['split']}: {counts['patients']:,} patients, "
        f"{counts['windows']:,} windows, mean over "
        f"{len(pooled['models']['adapter']['vitals'])} vitals"
    )
    table.add_column("against")
    table.add_column("metric")
    for name in ("difference", "95 % interval"):
        table.add_column(name, justify="right")
    table.add_column("the adapter is")
    for reference, label in _REFERENCE_COLUMNS.items():
        for metric in metrics:
            interval = pooled["differences"][reference]["mean"][metric]["relative"]
            table.add_row(
                label if metric == metrics[0] else "",
                METRICS[metric].label,
                percent(interval["estimate"]),
                bounds(interval) or NOTHING,
                _WORDS[verdict(interval)],
                end_section=metric == metrics[-1],
            )
    return table


def _vital_table(pooled: Mapping[str, Any], metric: str) -> Table:
    models, differences = pooled["models"], pooled["differences"]["zero_shot"]
    digits = {"wql": 4, "mse": 2, "mape": 2}.get(metric, 3)
    table = _table(f"{METRICS[metric].label} per vital; difference of the adapter to zero-shot")
    table.add_column("vital")
    for label in (*(_MODEL_COLUMNS[model] for model in MODELS), "difference", "95 % interval"):
        table.add_column(label, justify="right")
    vitals = list(models["adapter"]["vitals"])
    for vital in vitals:
        named = METRICS[metric].unit.replace("vital", VITAL_UNITS[vital])
        unit = f", {named}" if named else ""
        values = (number(models[model]["vitals"][vital][metric], digits) for model in MODELS)
        interval = differences["vitals"][vital][metric]["relative"]
        table.add_row(
            f"{VITAL_LABELS[vital]}{unit}",
            *values,
            *_difference(interval),
            end_section=vital == vitals[-1],
        )
    means = (
        NOTHING if METRICS[metric].has_dimension else number(models[model]["mean"][metric], digits)
        for model in MODELS
    )
    table.add_row("mean", *means, *_difference(differences["mean"][metric]["relative"]))
    return table


def _site_table(sites: Mapping[str, Any], metrics: Sequence[str]) -> Table:
    table = _table("Per site, mean over vitals; difference of the adapter to zero-shot")
    table.add_column("site", overflow="fold")
    # Three metrics with their intervals would not fit into 100 columns.
    intervals = len(metrics) < 3
    table.add_column("patients", justify="right")
    table.add_column("windows", justify="right")
    for metric in metrics:
        table.add_column(METRICS[metric].label, justify="right")
        if intervals:
            table.add_column("95 % interval", justify="right")
    for name, site in by_name(sites).items():
        counts = site["models"]["adapter"]["mean"]
        mean = site["differences"]["zero_shot"]["mean"]
        both = [list(_difference(mean[metric]["relative"])) for metric in metrics]
        cells = [cell for pair in both for cell in (pair if intervals else pair[:1])]
        table.add_row(escape(name), f"{counts['patients']:,}", f"{counts['windows']:,}", *cells)
    return table


def _difference(interval: IntervalJson) -> Iterator[str]:
    colour = {BETTER: "green", WORSE: "red"}.get(verdict(interval))
    text = percent(interval["estimate"])
    yield f"[{colour}]{text}[/{colour}]" if colour else text
    # Escaped, because brackets are rich's own markup.
    yield escape(bounds(interval)) or NOTHING


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
