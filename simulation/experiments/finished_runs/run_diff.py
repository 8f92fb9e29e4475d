"""Comparison of two groups of finished runs: settings, scores with paired intervals, and cost.

The difference is paired: both groups are scored on the same windows of the same test patients, and
each bootstrap draw of the patients is the same for both. Runs that were tested on different
patients are not compared. The patients whom two test sets share are a selection that neither
evaluation describes, and a patient tested in one run may have been a training patient of the other.
Whole sites with the same table in all runs are another matter: they are compared, the others named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from common.evaluation.bootstrap import CONFIDENCE, DEFAULT_REPLICATES
from common.evaluation.evaluate import Evaluation
from common.evaluation.metrics import METRICS
from simulation.experiments.analysis.seed_bootstrap import Array, Resampled, by_scope
from simulation.experiments.finished_runs.finished_run import FinishedRun, find_tables, score_run
from simulation.experiments.finished_runs.training_data import Group, differing_training

SCHEMA_VERSION = 1
MEAN = "mean"
_NOT_SETTINGS = ("data", "out", "resume", "statistics")


@dataclass(frozen=True)
class RunDiff:
    """Group b compared with group a.

    Attributes:
        a: the reference's runs.
        b: the compared runs, one per seed of `a`, or of any number if `a` has one.
        settings: by key, the values of `a` and of `b`; only settings that differ.
        training: the same for what the runs record of their training data.
        sites: sites that are compared.
        left_out: sites that not all runs were tested on with the same table.
        refusal: why the scores are not compared; empty if they are.
        scopes: by ``all`` and by site: counts, and by vital sign (or `MEAN`) and metric the values
            of `a` and `b` and the differences ``absolute`` and ``relative``, as intervals.
    """

    a: Group
    b: Group
    settings: dict[str, tuple[list[Any], list[Any]]]
    training: dict[str, tuple[list[Any], list[Any]]]
    sites: list[str]
    left_out: list[str]
    refusal: str = ""
    scopes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; no number of a single patient."""
        return {
            "schema_version": SCHEMA_VERSION,
            **{name: [_about(run) for run in group] for name, group in self.groups().items()},
            **{
                name: {key: {"a": a, "b": b} for key, (a, b) in values.items()}
                for name, values in (("settings", self.settings), ("training", self.training))
            },
            "cohort": {
                "same": not self.refusal and not self.left_out,
                "split": self.a[0].evaluation["split"],
                "sites": self.sites,
                "left_out": self.left_out,
                "refusal": self.refusal or None,
            },
            "bootstrap": {
                "replicates": DEFAULT_REPLICATES,
                "confidence": CONFIDENCE,
                "unit": "patient",
            },
            "scopes": self.scopes or None,
        }

    def groups(self) -> dict[str, Group]:
        """Return both groups by name."""
        return {"a": self.a, "b": self.b}


def no_progress(_step: str) -> None:
    """Show nothing."""


def diff_runs(
    a: Group,
    b: Group,
    data: Path | None = None,
    report_step: Callable[[str], None] = no_progress,
) -> RunDiff:
    """Compare runs; the scores are left out where they cannot be compared.

    Args:
        a: the reference's runs, one per seed.
        b: the compared runs.
        data: cohort folder that both were evaluated on; None = the one that they record.
        report_step: receives each step.

    Raises:
        UsageError: the numbers of runs do not pair, or the site tables are not found.
    """
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise UsageError(
            f"runs are paired by seed: give as many runs as runs to compare against, or one; got "
            f"{len(b)} and {len(a)}"
        )
    a, b = (sorted(group, key=seed_of) for group in (a, b))
    _refuse_seeds_twice(a, b)
    runs = [*a, *b]
    sites, left_out = _shared_sites(runs)
    found = RunDiff(
        a,
        b,
        _differing_settings(a, b),
        differing_training(a, b),
        sites,
        left_out,
        _refusal(runs, sites),
    )
    if found.refusal:
        return found
    tables = find_tables(runs, sites, data)
    scores: dict[str, list[dict[str, Evaluation]]] = {"a": [], "b": []}
    for name, group in found.groups().items():
        for run in group:
            report_step(f"scoring {run.folder}")
            scores[name].append(score_run(run, tables))
    report_step("resampling patients")
    for scope, by_group in by_scope(scores).items():
        found.scopes[scope] = _scope(by_group)
    return found


def seed_of(run: FinishedRun) -> int:
    """Return the seed of a run."""
    return int(run.record.settings.get("seed", 0))


def _refuse_seeds_twice(a: Group, b: Group) -> None:
    for name, group in (("A", a), ("B", b)):
        for first, second in pairwise(group):
            if seed_of(first) == seed_of(second):
                raise UsageError(
                    f"two runs of {name} have the seed {seed_of(first)}: {first.folder} and "
                    f"{second.folder}; give one run per seed"
                )


def _shared_sites(runs: Group) -> tuple[list[str], list[str]]:
    """Return the sites with the same table in all runs, and the others."""
    every = sorted({site for run in runs for site in run.tables})
    shared = [site for site in every if len({run.tables.get(site) for run in runs}) == 1]
    return shared, [site for site in every if site not in shared]


def _refusal(runs: Group, sites: Sequence[str]) -> str:
    """Return why the runs cannot be compared on the same windows; empty if they can."""
    splits = sorted({str(run.evaluation["split"]) for run in runs})
    if len(splits) > 1:
        return f"the runs were evaluated on different splits ({', '.join(splits)})"
    if not sites:
        return (
            "the runs were tested on different patients: no site table is the same (by SHA-256); "
            "the patients that the tables may share are a selection, and one run may have been "
            "trained on another's test patients"
        )
    windows = [dict(run.evaluation["settings"]) for run in runs]
    for key in sorted({key for one in windows for key in one}):
        values = list(dict.fromkeys(str(one.get(key)) for one in windows))
        if len(values) > 1:
            return f"the runs were tested on different windows: {key} is {' and '.join(values)}"
    return ""


def _differing_settings(a: Group, b: Group) -> dict[str, tuple[list[Any], list[Any]]]:
    of_a, of_b = ([_settings(run) for run in group] for group in (a, b))
    keys = dict.fromkeys(key for one in (*of_a, *of_b) for key in one)
    differing = {}
    for key in keys:
        values = [[one.get(key) for one in group] for group in (of_a, of_b)]
        if len({repr(value) for group in values for value in group}) > 1:
            differing[key] = (values[0], values[1])
    return differing


def _settings(run: FinishedRun) -> dict[str, Any]:
    """Return a run's settings with its sites' own ranks, and without paths of the machine."""
    given = run.record.public_settings
    settings = {key: value for key, value in given.items() if key not in _NOT_SETTINGS}
    ranks = {
        f"{site}.lora-rank": about["rank"]
        for site, about in run.record.sites.items()
        if about.get("rank", settings.get("lora.rank")) != settings.get("lora.rank")
    }
    return settings | ranks


def _scope(groups: Mapping[str, Sequence[Evaluation]]) -> dict[str, Any]:
    first = groups["a"][0]
    resampled = Resampled(groups, first.metrics)
    values = {name: resampled.values_and_mean(name) for name in groups}
    absolute, relative = resampled.absolute("b", "a"), resampled.relative("b", "a")
    measured = {
        **{name: resampled.intervals(rows.mean(axis=1)) for name, rows in values.items()},
        "absolute": resampled.intervals(absolute.mean(axis=1)),
        "relative": resampled.intervals(relative.mean(axis=1)),
    }
    rows: dict[str, Any] = {}
    for place, vital in enumerate((*VITAL_NAMES, MEAN)):
        if vital != MEAN and not resampled.present[place]:
            continue
        rows[vital] = {
            metric: {
                name: found.at(place, column).to_json()
                for name, found in measured.items()
                # A mean of mmHg and degrees has no meaning.
                if not (vital == MEAN and name != "relative" and METRICS[metric].has_dimension)
            }
            | {"seeds": _finite(relative[0, :, place, column])}
            for column, metric in enumerate(resampled.metrics)
        }
    return {
        "patients": int(np.count_nonzero(first.windows.any(axis=1))),
        "windows": int(first.windows.sum()),
        "vitals": {vital: row for vital, row in rows.items() if vital != MEAN},
        MEAN: rows[MEAN],
    }


def _finite(values: Array) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _about(run: FinishedRun) -> dict[str, Any]:
    record, traffic = run.record, run.record.traffic()
    return {
        "run": run.folder.name,
        "seed": seed_of(run),
        "adapter": record.adapter.digest(),
        "rounds": record.trained_rounds,
        "released_round": record.best_round,
        "bytes_to_sites": traffic.to_sites,
        "bytes_from_sites": traffic.from_sites,
        "seconds": run.seconds,
        "site_seconds": run.site_seconds,
        "epsilon": run.epsilon,
        # Of its own evaluation, whether or not that can be compared.
        "evaluation": run.evaluation["pooled"]["models"]["adapter"],
    }
