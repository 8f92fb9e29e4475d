"""The section of the cohort: from the stays of the source to the patients that are evaluated on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.data.exclusion_flow import units_of
from common.reporting.components import Part, Row, Section, Stage, Table, short
from common.reporting.phrasing import NOTHING
from server.runs.run_reader import RunRecord

_RULES = """\
The rules were applied in this order to the stays of the cohort that the adapter is evaluated on,
before any model saw them."""

_SPLIT = """\
Patients were divided before training, by a keyed hash of their identifier: all stays of a patient
are in one of the three parts and at one site."""


def cohort_section(record: RunRecord) -> Section | None:
    """Return the section; None where the evaluation knows of no flow."""
    evaluation = record.evaluation or {}
    cohort = evaluation.get("cohort") or {}
    steps = cohort.get("flow") or []
    if not steps:
        return None
    source = short(cohort.get("source", ""))
    parts = [
        Part(
            paragraphs=[f"{_RULES} Source: {source}." if source else _RULES],
            flow=[_stage(step) for step in steps],
            folded_title="Stays left at each unit",
            folded=[_unit_table(steps)],
        ),
        Part("How the patients were divided", [_SPLIT], tables=[_split_table(record)]),
    ]
    return Section("cohort", "Cohort", parts)


def _stage(step: Mapping[str, Any]) -> Stage:
    out = int(step["excluded"])
    return Stage(
        left=_counted(int(step["stays"]), "stay"),
        of=f"of {_counted(int(step['patients']), 'patient')}",
        rule=short(step["label"]),
        out=f"{_counted(out, 'stay')} left out" if out else "",
    )


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _unit_table(steps: list[Mapping[str, Any]]) -> Table:
    units = units_of(steps)
    rows = [
        Row(
            short(step["label"]),
            [
                f"{step['stays']:,}",
                f"{step['patients']:,}",
                *(f"{step['stays_per_unit'].get(unit, 0):,}" for unit in units),
            ],
        )
        for step in steps
    ]
    header = ["Rule", "Stays", "Patients", *map(short, units)]
    return Table("Stays left after each rule, by unit", header, rows)


def _split_table(record: RunRecord) -> Table:
    """Training patients as the sites told them, and those that were evaluated on."""
    evaluation = record.evaluation or {}
    data = evaluation.get("data", {})
    split = evaluation.get("split", "test")
    rows = []
    for site in sorted({*record.sites, *data}):
        trained = record.sites.get(site, {}).get("patients")
        result = evaluation.get("sites", {}).get(site)
        mean = result["models"]["adapter"]["mean"] if result else {}
        evaluated = 0 if site in data else None
        rows.append(
            Row(
                short(site),
                [
                    _cell(trained),
                    _cell(mean.get("patients", evaluated)),
                    _cell(mean.get("windows", evaluated)),
                ],
            )
        )
    header = ["Site", "Training patients", f"Patients, {split}", f"Windows, {split}"]
    return Table("Patients with at least one window, by site", header, rows)


def _cell(count: int | None) -> str:
    return NOTHING if count is None else f"{count:,}"
