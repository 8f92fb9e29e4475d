"""Tidy CSV tables of an experiment: one row per value.

results.csv   reproducible values, the same bytes at every repetition
measured.csv  seconds, which vary
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from common.data.vitals import VITAL_NAMES
from common.files.atomic_io import write_text
from common.reporting.export.inert_csv import inert_csv
from simulation.experiments.analysis.analysis import MEAN_OF_VITALS, Analysis
from simulation.experiments.analysis.seed_bootstrap import ALL, Resampled
from simulation.experiments.run_cells import Arm

RESULT_COLUMNS = (
    *("arm", "method", "site", "group", "vital", "metric", "against", "seed"),
    *("value", "low", "high"),
)
"""`site` is a site or ``all``; empty where `group` is an age band, a sex or sites of one size.

`against` is empty for a metric itself, else the arm to which `value` is the relative difference.

`seed` is a seed, or ``mean`` over the seeds; only the mean has an interval (over patients).
"""

RESULTS_FILE = "results.csv"
MEASURED_FILE = "measured.csv"

_Row = Mapping[str, object]
_Where = Mapping[str, str]


def result_rows(analysis: Analysis) -> Iterator[_Row]:
    """Yield the rows of results.csv."""
    for arm in analysis.arms.values():
        yield from _facts(arm)
    for scope, resampled in analysis.scopes.items():
        of_group = scope in analysis.groups.members or scope in analysis.bands
        where = {"site": "", "group": scope} if of_group else {"site": scope}
        for arm in analysis.arms.values():
            yield from _values(arm, where, resampled)
            for reference in analysis.references:
                if reference != arm.name:
                    other = analysis.arms[reference]
                    yield from _differences(arm, other, where, resampled)


def measured_rows(arms: Mapping[str, Arm]) -> Iterator[_Row]:
    """Yield the rows of measured.csv."""
    for arm in arms.values():
        for seed, result in arm.results.items():
            for name, value in sorted(result.measured.items()):
                yield _row(arm, metric=name, seed=seed, value=value)


def write_tables(folder: Path, analysis: Analysis) -> None:
    """Write both tables into a folder, each atomically."""
    write_text(folder / RESULTS_FILE, csv_text(result_rows(analysis)))
    write_text(folder / MEASURED_FILE, csv_text(measured_rows(analysis.arms)))


def csv_text(rows: Iterable[_Row], columns: Sequence[str] = RESULT_COLUMNS) -> str:
    """Return rows as CSV; an undefined number is an empty cell."""
    cells = ([_cell(row.get(column, "")) for column in columns] for row in rows)
    return inert_csv([columns, *cells])


def _facts(arm: Arm) -> Iterator[_Row]:
    for seed, result in arm.results.items():
        for name, value in sorted(result.facts.items()):
            yield _row(arm, metric=name, seed=seed, value=value)


def _values(arm: Arm, where: _Where, resampled: Resampled) -> Iterator[_Row]:
    by_seed = resampled.values(arm.name)  # [1 + B, S, V, M]
    found = resampled.intervals(by_seed.mean(axis=1))
    for place, vital in enumerate(VITAL_NAMES):
        if not resampled.present[place]:
            continue
        for column, metric in enumerate(resampled.metrics):
            about = {**where, "vital": vital, "metric": metric}
            for number, seed in enumerate(arm.results):
                yield _row(arm, **about, seed=seed, value=by_seed[0, number, place, column])
            yield _mean_row(arm, about, vars(found.at(place, column)))


def _differences(arm: Arm, other: Arm, where: _Where, resampled: Resampled) -> Iterator[_Row]:
    by_seed = resampled.relative(arm.name, other.name)  # [1 + B, S, V + 1, M]
    seeds = max(arm.results, other.results, key=len)
    found = resampled.intervals(by_seed.mean(axis=1))
    for place, vital in enumerate((*VITAL_NAMES, MEAN_OF_VITALS)):
        if vital != MEAN_OF_VITALS and not resampled.present[place]:
            continue
        for column, metric in enumerate(resampled.metrics):
            about = {**where, "vital": vital, "metric": metric, "against": other.name}
            for number, seed in enumerate(seeds):
                yield _row(arm, **about, seed=seed, value=by_seed[0, number, place, column])
            yield _mean_row(arm, about, vars(found.at(place, column)))


def _mean_row(arm: Arm, about: Mapping[str, object], interval: Mapping[str, float]) -> _Row:
    ends = {"low": interval["low"], "high": interval["high"]}
    return _row(arm, **about, seed="mean", value=interval["estimate"], **ends)


def _row(arm: Arm, **columns: object) -> _Row:
    return {"arm": arm.name, "method": arm.cell.method, "site": ALL, **columns}


def _cell(value: object) -> str:
    if isinstance(value, float):  # numpy's float64 is one too
        return f"{float(value):.9g}" if math.isfinite(value) else ""
    return str(value)
