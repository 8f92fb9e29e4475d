"""Metrics and differences of the arms with their intervals, by site, group and vital."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.data.vitals import VITAL_NAMES
from common.evaluation.bootstrap import DEFAULT_REPLICATES, LEAST_PATIENTS, Interval
from common.evaluation.evaluate import Evaluation
from common.evaluation.metrics import METRICS
from simulation.experiments.analysis.seed_bootstrap import ALL, Resampled, by_group, by_scope
from simulation.experiments.analysis.site_sizes import Bands
from simulation.experiments.analysis.subgroups import Groups
from simulation.experiments.run_cells import Arm

MEAN_OF_VITALS = "mean"
"""Stands for the mean over vital signs instead of a vital's name."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """The arms of an experiment on the same patients.

    Attributes:
        arms: arms by name, in the order of every table.
        references: arms that the others are compared with.
        scopes: resampled metrics of all arms, by scope: `ALL`, each site, each group of patients
            and each group of sites.
        groups: age bands and sexes, where the experiment reports them.
        bands: groups of sites by size, where there are many sites.
    """

    arms: Mapping[str, Arm]
    references: tuple[str, ...]
    scopes: dict[str, Resampled] = field(default_factory=dict)
    groups: Groups = field(default_factory=Groups)
    bands: Bands = field(default_factory=dict)

    @property
    def sites(self) -> list[str]:
        """The sites that were tested."""
        others = {ALL, *self.groups.members, *self.bands}
        return [scope for scope in self.scopes if scope not in others]

    @property
    def comparable_sites(self) -> list[str]:
        """The sites with enough test patients for an interval."""
        return [site for site in self.sites if self.scopes[site].patients >= LEAST_PATIENTS]

    def value(self, arm: str, metric: str, vital: str, scope: str = ALL) -> Interval:
        """Return a metric of one vital: the mean over seeds with its interval."""
        resampled = self.scopes[scope]
        found = resampled.intervals(resampled.values(arm).mean(axis=1))
        return found.at(VITAL_NAMES.index(vital), resampled.metrics.index(metric))

    def difference(
        self, arm: str, reference: str, metric: str, vital: str = MEAN_OF_VITALS, scope: str = ALL
    ) -> Interval:
        """Return a relative difference: the mean over seeds with its interval."""
        resampled = self.scopes[scope]
        found = resampled.intervals(resampled.relative(arm, reference).mean(axis=1))
        return found.at(_row(vital), resampled.metrics.index(metric))

    def seeds(
        self, arm: str, reference: str, metric: str, vital: str = MEAN_OF_VITALS, scope: str = ALL
    ) -> list[float]:
        """Return the relative difference of each seed."""
        resampled = self.scopes[scope]
        column = resampled.metrics.index(metric)
        return [float(v) for v in resampled.relative(arm, reference)[0, :, _row(vital), column]]

    def vitals(self, scope: str = ALL) -> list[str]:
        """Return the vitals that were tested."""
        present = self.scopes[scope].present
        return [name for name, there in zip(VITAL_NAMES, present, strict=True) if there]


def analyse(
    arms: Mapping[str, Arm],
    references: Sequence[str],
    groups: Groups | None = None,
    bands: Bands | None = None,
) -> Analysis:
    """Resample the patients of every scope under all arms at once."""
    groups, bands = groups or Groups(), bands or {}
    scores = {
        name: [result.scores for result in arm.results.values()] for name, arm in arms.items()
    }
    evaluations = by_scope(scores, bands) | by_group(scores, groups.members)
    scopes = {
        scope: Resampled(by_arm, tuple(METRICS), _replicates(scope, by_arm))
        for scope, by_arm in evaluations.items()
    }
    known = tuple(name for name in references if name in arms)
    return Analysis(dict(arms), known, scopes, groups, bands)


def _replicates(scope: str, by_arm: Mapping[str, Sequence[Evaluation]]) -> int:
    """Return the number of draws; none for a site or group too small for an interval.

    A cohort of hundreds of hospitals has many of these, and their draws would fill the memory.
    """
    first = next(iter(by_arm.values()))[0]
    patients = int(first.windows.any(axis=1).sum())
    return DEFAULT_REPLICATES if scope == ALL or patients >= LEAST_PATIENTS else 0


def _row(vital: str) -> int:
    return (*VITAL_NAMES, MEAN_OF_VITALS).index(vital)
