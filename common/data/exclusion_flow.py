"""The flow of exclusions: how many stays each rule took away, in total and per unit.

Every cohort states it, as a CONSORT flow chart does for a trial.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd
from rich.table import Table

from common.console import narrow_table


@dataclass(frozen=True)
class FlowStep:
    """The stays that are left after one rule.

    Attributes:
        label: the rule in words, e.g. ``adults (18 years or older)``.
        kept: stays left per unit.
        patients: patients left in total.
    """

    label: str
    kept: Mapping[str, int]
    patients: int

    @property
    def total(self) -> int:
        """Stays left in all units together."""
        return sum(self.kept.values())


@dataclass
class ExclusionFlow:
    """The steps of a cohort, in the order in which its rules were applied."""

    steps: list[FlowStep] = field(default_factory=list)

    def record(self, label: str, stays: pd.DataFrame) -> None:
        """Note the stays that are left after a rule.

        Args:
            label: the rule in words.
            stays: one row a stay, with the columns `unit` and `patient_id`.
        """
        kept = stays.groupby("unit", sort=True).size().astype(int).to_dict()
        self.steps.append(
            FlowStep(
                label, {str(unit): n for unit, n in kept.items()}, stays["patient_id"].nunique()
            )
        )

    def units(self) -> list[str]:
        """All units that occur in any step, sorted."""
        return sorted({unit for step in self.steps for unit in step.kept})

    def to_json(self) -> list[dict[str, object]]:
        """The steps as plain values, as the record of a cohort holds them."""
        steps: list[dict[str, object]] = []
        previous: FlowStep | None = None
        for step in self.steps:
            excluded = 0 if previous is None else previous.total - step.total
            steps.append(
                {
                    "label": step.label,
                    "stays": step.total,
                    "excluded": excluded,
                    "patients": step.patients,
                    "stays_per_unit": dict(sorted(step.kept.items())),
                }
            )
            previous = step
        return steps


def flow_table(steps: Iterable[Mapping[str, object]]) -> Table:
    """Draw the flow, as `ExclusionFlow.to_json` gives it, for the console."""
    steps = list(steps)
    units = units_of(steps)
    # Of a single unit the total says it all.
    units = units if len(units) > 1 else []
    numbers = ("out", "stays", "patients", *units)
    table = narrow_table("Stays left after each rule", ["rule"], numbers)
    for step in steps:
        counts = [str(_per_unit(step).get(unit, 0)) for unit in units]
        table.add_row(
            str(step["label"]),
            str(step["excluded"]),
            str(step["stays"]),
            str(step["patients"]),
            *counts,
        )
    return table


def units_of(steps: Iterable[Mapping[str, object]]) -> list[str]:
    """Return all units that occur in any step of a flow as `ExclusionFlow.to_json` gives it."""
    return sorted({unit for step in steps for unit in _per_unit(step)})


def _per_unit(step: Mapping[str, object]) -> Mapping[str, int]:
    per_unit = step["stays_per_unit"]
    if not isinstance(per_unit, Mapping):
        raise TypeError(f"stays_per_unit is {type(per_unit).__name__}, expected a mapping")
    return per_unit
