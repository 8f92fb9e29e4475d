"""Cohort section: the patients' characteristics, exclusions from the source, and the splits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.data.exclusion_flow import MOST_SITE_COLUMNS, units_of
from common.reporting.characteristics import characteristics_notes, characteristics_table
from common.reporting.components import Part, Row, Section, Stage, Table
from common.reporting.phrasing import clean_line, count_or_dash, counted, sources_in_words
from server.runs.run_reader import RunRecord, by_name

_RULES = """\
The rules were applied in this order to the stays of the evaluation cohort, before any model saw
them."""

_NO_TABLE1 = """\
There is no table of the patients' characteristics: a hospital's own table keeps its numbers at the
hospital, and a cohort of an earlier release must be prepared again."""

_SPLIT = """\
Patients were split before training, by a keyed hash of their identifier: all stays of a patient
are in one of the three splits and at one site."""


def cohort_section(record: RunRecord) -> Section | None:
    """Return the section; None if the evaluation records neither exclusions nor an own split."""
    evaluation = record.evaluation or {}
    cohort = evaluation.get("cohort") or {}
    steps = cohort.get("flow") or []
    own_split = any(about.get("split_rule") for about in evaluation.get("data", {}).values())
    if not steps and not own_split:
        return None
    split = Part(
        "How the patients were split", split_texts(evaluation), tables=[_split_table(record)]
    )
    parts = [_patients(cohort), _flow_part(steps, cohort)] if steps else []
    return Section("cohort", "Cohort", [*parts, split])


def _flow_part(steps: list[Mapping[str, Any]], cohort: Mapping[str, Any]) -> Part:
    source = sources_in_words([cohort.get("source", "")])
    return Part(
        "How they were selected",
        paragraphs=[f"{_RULES} Source: {source}." if source else _RULES],
        flow=[_stage(step) for step in steps],
        folded_title="Stays left at each unit",
        folded=[_unit_table(steps)],
    )


def split_texts(evaluation: Mapping[str, Any]) -> list[str]:
    """Return how the patients of the evaluation were split, sites with rules of their own named."""
    rules = {
        site: clean_line(about["split_rule"])
        for site, about in evaluation.get("data", {}).items()
        if about.get("split_rule")
    }
    by_hash = len(rules) < len(evaluation.get("data", {})) or not rules
    own = [
        f"{clean_line(site)} has a split of its own, {rule}. All stays of a patient are in one of "
        "the three splits."
        for site, rule in rules.items()
    ]
    return [*([_SPLIT] if by_hash else []), *own]


def _patients(cohort: Mapping[str, Any]) -> Part:
    """Return table 1 of the evaluation cohort."""
    characteristics = cohort.get("characteristics")
    if not characteristics:
        return Part("Who the patients are", [_NO_TABLE1])
    table = characteristics_table(characteristics, MOST_SITE_COLUMNS)
    notes = characteristics_notes(characteristics)
    if len(characteristics["sites"]) > MOST_SITE_COLUMNS:
        notes.append("The columns by site are in table1.csv beside the cohort's site tables.")
    return Part("Who the patients are", tables=[table], notes=notes)


def _stage(step: Mapping[str, Any]) -> Stage:
    excluded = int(step["excluded"])
    return Stage(
        left=counted(int(step["stays"]), "stay"),
        of=f"of {counted(int(step['patients']), 'patient')}",
        rule=clean_line(step["label"]),
        out=f"{counted(excluded, 'stay')} excluded" if excluded else "",
    )


def _unit_table(steps: list[Mapping[str, Any]]) -> Table:
    units = units_of(steps)
    if len(units) > MOST_SITE_COLUMNS:
        return _long_unit_table(steps, units)
    rows = [
        Row(
            clean_line(step["label"]),
            [
                f"{step['stays']:,}",
                f"{step['patients']:,}",
                *(f"{step['stays_per_unit'].get(unit, 0):,}" for unit in units),
            ],
        )
        for step in steps
    ]
    header = ["Rule", "Stays", "Patients", *map(clean_line, units)]
    return Table("Stays left after each rule, by unit", header, rows)


def _long_unit_table(steps: list[Mapping[str, Any]], units: list[str]) -> Table:
    """Return the table with a row per unit, since a column for each of hundreds fits no page."""
    rows = [
        Row(clean_line(unit), [f"{step['stays_per_unit'].get(unit, 0):,}" for step in steps])
        for unit in units
    ]
    header = ["Unit", *(clean_line(step["label"]) for step in steps)]
    return Table("Stays left after each rule, by unit", header, rows)


def _split_table(record: RunRecord) -> Table:
    """Return training patients as reported by the sites, and evaluated patients, by site."""
    evaluation = record.evaluation or {}
    data = evaluation.get("data", {})
    split = evaluation.get("split", "test")
    rows = []
    for site in by_name({**record.sites, **data}):
        trained = record.sites.get(site, {}).get("patients")
        result = evaluation.get("sites", {}).get(site)
        mean = result["models"]["adapter"]["mean"] if result else {}
        evaluated = 0 if site in data else None
        rows.append(
            Row(
                clean_line(site),
                [
                    count_or_dash(trained),
                    count_or_dash(mean.get("patients", evaluated)),
                    count_or_dash(mean.get("windows", evaluated)),
                ],
            )
        )
    header = ["Site", "Training patients", f"Patients, {split}", f"Windows, {split}"]
    return Table("Patients with at least one window, by site", header, rows)
