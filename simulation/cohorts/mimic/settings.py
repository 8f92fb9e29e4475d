"""Settings that the cohorts of MIMIC-III and MIMIC-IV share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from common.errors import UsageError
from simulation.cohorts import ADULT_YEARS
from simulation.cohorts.stay_selection import check_settings, one_of


@dataclass(frozen=True, kw_only=True)
class MimicSettings:
    """Settings of a cohort of MIMIC.

    Attributes:
        sepsis: one of `RULES`.
        step_minutes: length of a time step.
        min_hours: least hours from admission to the last vital sign.
        units: care units to keep, of `UNITS`.
    """

    RULES: ClassVar[tuple[str, ...]] = ()
    """Sepsis rules."""
    UNITS: ClassVar[tuple[str, ...]] = ()
    """Care units: the sites."""

    sepsis: str = "explicit"
    step_minutes: int = 60
    min_hours: int = 12
    units: tuple[str, ...]

    def __post_init__(self) -> None:
        one_of("--sepsis", self.sepsis, self.RULES)
        for unit in self.units:
            one_of("--units", unit, self.UNITS)
        if not self.units:
            raise UsageError(f"--units is empty; choose from {', '.join(self.UNITS)}")
        check_settings(self.step_minutes, self.min_hours)

    @property
    def rule(self) -> str:
        """Description of the cohort rule, as in every artefact."""
        return ", ".join(
            (
                f"sepsis={self.sepsis}",
                *self.own_rules(),
                f"age>={ADULT_YEARS}",
                f"at least {self.min_hours} h",
                f"{self.step_minutes} min steps",
            )
        )

    def own_rules(self) -> tuple[str, ...]:
        """Return descriptions of rules that one of the two data sets has."""
        return ()

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values; units sorted, since their order has no meaning."""
        return {**asdict(self), "units": sorted(set(self.units))}
