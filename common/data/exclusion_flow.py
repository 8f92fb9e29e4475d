"""Flow of exclusions: stays left after each rule, in total and per unit, as in a CONSORT chart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd
from rich.table import Table

from common.console import narrow_table

MOST_SITE_COLUMNS = 12
"""Sites up to which a table has a column for each; of more it has the total alone."""

_RULE_WIDTH = 24
"""Columns that a rule's text has at least."""


@dataclass(frozen=True)
class FlowStep:
    """Stays left after one rule.

    Attributes:
        label: description of the rule, e.g. ``adults (18 years or older)``.
        kept: stays left per unit.
        patients: patients left in total.
        source: the source, if the cohort has several; the first step of each excludes nothing.
    """

    label: str
    kept: Mapping[str, int]
    patients: int
    source: str = ""

    @property
    def total(self) -> int:
        """Stays left in all units."""
        return sum(self.kept.values())


@dataclass
class ExclusionFlow:
    """Steps of a cohort's selection, in the order in which its rules were applied."""

    steps: list[FlowStep] = field(default_factory=list)

    def record(self, label: str, stays: pd.DataFrame) -> None:
        """Add a step.

        Args:
            label: description of the rule.
            stays: the stays left, one per row, with the columns `unit` and `patient_id`.
        """
        kept = stays.groupby("unit", sort=True).size().astype(int).to_dict()
        self.steps.append(
            FlowStep(
                label, {str(unit): n for unit, n in kept.items()}, stays["patient_id"].nunique()
            )
        )

    def to_json(self) -> list[dict[str, object]]:
        """Return the steps as plain values, as in the record of a cohort."""
        steps: list[dict[str, object]] = []
        previous: FlowStep | None = None
        for step in self.steps:
            excluded = 0
            if previous is not None and previous.source == step.source:
                excluded = previous.total - step.total
            steps.append(
                {
                    "label": f"{step.source}: {step.label}" if step.source else step.label,
                    "stays": step.total,
                    "excluded": excluded,
                    "patients": step.patients,
                    "stays_per_unit": dict(sorted(step.kept.items())),
                }
            )
            previous = step
        return steps


def flow_table(steps: Iterable[Mapping[str, object]], width: int) -> Table:
    """Return a console table of a flow.

    Args:
        steps: the flow in the form of `ExclusionFlow.to_json`.
        width: columns of the console; where the units do not fit beside the rules, their columns
            are left out and a line says so.
    """
    steps = list(steps)
    units = units_of(steps)
    # For a single unit the total is enough.
    shown = units if len(units) > 1 else []
    totals = ("out", "stays", "patients")
    if sum(len(name) + 1 for name in (*totals, *shown)) + _RULE_WIDTH > width:
        shown = []
    table = narrow_table("Stays left after each rule", ["rule"], [*totals, *shown])
    if len(units) > 1 and not shown:
        table.caption = (
            f"The {len(units)} columns of stays by site do not fit; the record has them."
        )
        table.caption_justify = "left"
    for step in steps:
        counts = [str(_per_unit(step).get(unit, 0)) for unit in shown]
        table.add_row(
            str(step["label"]),
            str(step["excluded"]),
            str(step["stays"]),
            str(step["patients"]),
            *counts,
        )
    return table


def units_of(steps: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the units of a flow in the form of `ExclusionFlow.to_json`, sorted."""
    return sorted({unit for step in steps for unit in _per_unit(step)})


def _per_unit(step: Mapping[str, object]) -> Mapping[str, int]:
    per_unit = step["stays_per_unit"]
    if not isinstance(per_unit, Mapping):
        raise TypeError(f"stays_per_unit is {type(per_unit).__name__}, expected a mapping")
    return per_unit
