"""Tables and sentences of a comparison of runs, no stronger than their intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from common.data.vitals import VITALS
from common.evaluation.metrics import METRICS
from common.reporting.cells import decimal, relative, shown_as, signed
from common.reporting.components import Row, Table
from common.reporting.phrasing import (
    BETTER,
    MINUS,
    NO_BREAK,
    NOTHING,
    UNCLEAR,
    UNKNOWN,
    WORSE,
    IntervalJson,
    bounds,
    byte_size,
    clean_line,
    difference_in_words,
    listed,
    percent,
    verdict,
)
from simulation.experiments.analysis.seed_bootstrap import ALL
from simulation.experiments.finished_runs.finished_run import FinishedRun
from simulation.experiments.finished_runs.run_diff import MEAN, RunDiff, seed_of
from simulation.experiments.finished_runs.training_data import Group

SHOWN_METRICS = ("wql", "mae")
_SHOWN = {
    BETTER: "B lower",
    WORSE: "B higher",
    UNCLEAR: "none",
    UNKNOWN: "too few",
}
_INTERVALS = (
    "In brackets: 95 % intervals. Patients are resampled, each with all windows and for A and B "
    "alike (paired). They do not cover the variation between seeds, and are not corrected for "
    "looking at several sites and vital signs."
)
_OTHER_TRAINING = (
    "A and B were trained on different data (see the table), so a difference between them is not "
    "of the settings alone. No run records which patients it was trained on: make sure that no "
    "test patient of this cohort was a training patient of A or B."
)
_ONE_SEED = (
    "One run each: two runs that differ in their seed alone differ too. For several seeds see "
    "--against."
)


def diff_tables(diff: RunDiff) -> dict[str, Table]:
    """Return the tables for the console, by name."""
    tables = {"settings": _settings_table(diff), "cost": _cost_table(diff)}
    if diff.refusal:
        return tables | {"evaluations": _separate_table(diff)}
    return tables | {
        "wql-by-site": _wql_by_site(diff),
        "mae-by-site": _mae_by_site(diff),
        "mae-by-vital-sign": _by_vital(diff, "mae", ALL),
    }


def exported_tables(diff: RunDiff) -> dict[str, Table]:
    """Return the tables of the console and those of every metric by site and vital sign."""
    tables = diff_tables(diff)
    for scope in diff.scopes:
        for metric in diff.scopes[scope][MEAN]:
            tables.setdefault(f"{metric}-by-vital-sign-{scope}", _by_vital(diff, metric, scope))
    tables.pop("mae-by-vital-sign-all", None)
    return tables


def statements(diff: RunDiff) -> list[str]:
    """Return what was compared and what follows, a sentence or two each."""
    if diff.refusal:
        return []
    counts = diff.scopes[ALL]
    split = diff.a[0].evaluation["split"]
    of = "the same" if not diff.left_out else f"{len(diff.sites)} shared"
    lines = [
        f"Cohort: {of} site tables (by SHA-256): {counts['patients']:,} {split} patients, "
        f"{counts['windows']:,} windows."
    ]
    if diff.left_out:
        lines.append(
            f"Left out, since not all runs were tested on the same table there: "
            f"{listed(map(clean_line, diff.left_out))}."
        )
    if diff.training:
        lines.append(_OTHER_TRAINING)
    lines += [f"{_statement(metric, counts[MEAN][metric])}." for metric in SHOWN_METRICS]
    lines.append(_INTERVALS)
    lines += list(_about_seeds(diff))
    return lines


def _statement(metric: str, entry: Mapping[str, Any]) -> str:
    interval, label = entry["relative"], METRICS[metric].label
    if verdict(interval) == UNCLEAR:
        return (
            f"{label}, mean over vital signs: no difference shown between A and B "
            f"({percent(interval['estimate'])} {bounds(interval)})"
        )
    return difference_in_words(f"{label} of B, mean over vital signs,", interval, "A")


def _about_seeds(diff: RunDiff) -> Iterator[str]:
    seeds = diff.scopes[ALL][MEAN]["wql"]["seeds"]
    if len(seeds) < 2:
        yield _ONE_SEED
        return
    known = [seed for seed in seeds if seed is not None]
    of_a, of_b = ([seed_of(run) for run in group] for group in (diff.a, diff.b))
    if len(of_a) == len(of_b) and of_a != of_b:
        yield (
            "A and B have different seeds. They are paired in the order of their seeds: "
            + listed(f"{a} with {b}" for a, b in zip(of_a, of_b, strict=True))
            + "."
        )
    yield (
        f"Values are means over {len(seeds)} pairs of runs. WQL of the single pairs: "
        f"{percent(min(known))} to {percent(max(known))}."
        if known
        else f"Values are means over {len(seeds)} pairs of runs."
    )


def _settings_table(diff: RunDiff) -> Table:
    differing = diff.settings | diff.training
    rows = [Row(clean_line(key), [_values(a), _values(b)]) for key, (a, b) in differing.items()]
    caption = "Settings that differ" if rows else "All settings are the same"
    if diff.training:
        caption = "Settings and training data that differ"
    return Table(caption, ["setting", "A", "B"], rows, text=True)


def _values(values: Sequence[Any]) -> str:
    texts = [NOTHING if value is None else clean_line(value) for value in values]
    return ", ".join(dict.fromkeys(texts))


def _cost_table(diff: RunDiff) -> Table:
    def row(
        label: str, number: Callable[[FinishedRun], float | None], text: Callable[[float], str]
    ) -> Row:
        return Row(label, [_mean_cell(group, number, text) for group in (diff.a, diff.b)])

    def traffic(run: FinishedRun) -> tuple[int, int]:
        return run.record.traffic().to_sites, run.record.traffic().from_sites

    rows = [
        row("rounds", lambda run: run.record.trained_rounds, "{:,.4g}".format),
        row("released round", lambda run: run.record.best_round, "{:,.4g}".format),
        row("adapter numbers", lambda run: run.loaded.adapter.num_parameters, "{:,.0f}".format),
        row("bytes to sites", lambda run: traffic(run)[0], byte_size),
        row("bytes from sites", lambda run: traffic(run)[1], byte_size),
        row("seconds of the rounds", lambda run: run.seconds, "{:,.1f}".format),
        row("seconds of work at sites", lambda run: run.site_seconds, "{:,.1f}".format),
        row(
            f"epsilon, largest of a site ({NOTHING} = no privacy)",
            lambda run: run.epsilon,
            "{:.4g}".format,
        ),
    ]
    caption = "Privacy and cost; seconds depend on the machine"
    return Table(caption, ["", "A", "B"], rows)


def _mean_cell(
    group: Group, number: Callable[[FinishedRun], float | None], text: Callable[[float], str]
) -> str:
    numbers = [number(run) for run in group]
    known = [one for one in numbers if one is not None]
    if len(known) < len(numbers):
        # Without privacy there is no epsilon, and no mean of some runs with and some without.
        return decimal(None)
    mean = sum(known) / len(known)
    return shown_as(mean, text(mean))


def _wql_by_site(diff: RunDiff) -> Table:
    rows = []
    for scope, entry in diff.scopes.items():
        wql = entry[MEAN]["wql"]
        values = [decimal(wql[name]["estimate"], 4) for name in ("a", "b")]
        rows.append(
            Row(
                _scope_label(scope),
                [
                    f"{entry['patients']:,}",
                    *values,
                    relative(wql["relative"]),
                    _SHOWN[verdict(wql["relative"])],
                ],
            )
        )
    header = ["site", "patients", "A", "B", "B relative to A", "shown"]
    return Table(
        "WQL, mean over vital signs of the values and of the relative differences", header, rows
    )


def _mae_by_site(diff: RunDiff) -> Table:
    rows = [
        Row(
            _scope_label(scope),
            [
                f"{entry['patients']:,}",
                relative(entry[MEAN]["mae"]["relative"]),
                _SHOWN[verdict(entry[MEAN]["mae"]["relative"])],
            ],
        )
        for scope, entry in diff.scopes.items()
    ]
    header = ["site", "patients", "B relative to A", "shown"]
    return Table("MAE, mean over vital signs of the relative differences", header, rows)


def _by_vital(diff: RunDiff, metric: str, scope: str) -> Table:
    shown = METRICS[metric]
    digits = 4 if metric == "wql" else 3
    rows = []
    for vital in VITALS:
        entry = diff.scopes[scope]["vitals"].get(vital.name, {}).get(metric)
        if entry is None:
            continue
        rows.append(
            Row(
                vital.short,
                [
                    *(decimal(entry[name]["estimate"], digits) for name in ("a", "b")),
                    signed(entry["absolute"], digits),
                    shown_as(
                        _scaled(entry["relative"]), percent(entry["relative"]["estimate"]), "%"
                    ),
                    _SHOWN[verdict(entry["absolute"])],
                ],
                unit=shown.unit.replace("vital", vital.unit),
            )
        )
    header = ["vital sign", "A", "B", f"B {MINUS} A", "relative", "shown"]
    return Table(f"{shown.label} by vital sign, {_scope_label(scope)}", header, rows)


def _scaled(interval: IntervalJson) -> float | None:
    estimate = interval["estimate"]
    return None if estimate is None else 100 * estimate


def _separate_table(diff: RunDiff) -> Table:
    """Return each run's own result, for runs that cannot be compared."""
    rows = []
    for name, group in diff.groups().items():
        for run in group:
            mean = run.evaluation["pooled"]["models"]["adapter"][MEAN]
            rows.append(
                Row(
                    f"{name.upper()}: {clean_line(run.folder.name)}",
                    [
                        clean_line(run.evaluation["split"]),
                        f"{mean['patients']:,}",
                        f"{mean['windows']:,}",
                        decimal(mean["wql"], 4),
                    ],
                )
            )
    header = ["run", "split", "patients", "windows", "WQL, mean over vital signs"]
    return Table("Each run on its own test; not comparable", header, rows)


def _scope_label(scope: str) -> str:
    return f"all{NO_BREAK}sites" if scope == ALL else clean_line(scope)
