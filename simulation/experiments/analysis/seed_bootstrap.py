"""Bootstrap over patients of several arms with several seeds: values, differences, intervals.

As in `common.evaluation.bootstrap`, patients are resampled with all their windows, under all arms
and all seeds at once; a figure is computed within each seed and then averaged over the seeds. An
interval covers the variation over patients of the mean over these seeds. It does not cover the
variation over seeds, which is reported separately as the range of the seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from common.evaluation.bootstrap import (
    DEFAULT_REPLICATES,
    Interval,
    Intervals,
    percentile_intervals,
    resampled_sums,
)
from common.evaluation.evaluate import Evaluation, mean_over_vitals, metric_values, pool_evaluations

Array = npt.NDArray[np.float64]

ALL = "all"
"""Scope of all sites' patients together."""

_DRAW_SEED = 0
"""Seed of the draws, the same for all arms, so that differences are paired by patient."""


class Resampled:
    """Metrics of several arms on the original patients and on each bootstrap draw of them.

    Row 0 of every array is the original patients, the other B rows are the draws.

    Args:
        arms: evaluations of each arm, one per seed, all on the same windows.
        metrics: M names.
        replicates: number B of draws; 0 for values without intervals.
    """

    def __init__(
        self,
        arms: Mapping[str, Sequence[Evaluation]],
        metrics: Sequence[str],
        replicates: int = DEFAULT_REPLICATES,
    ) -> None:
        self.metrics = tuple(metrics)
        first = next(iter(arms.values()))[0]
        patients = np.count_nonzero(first.windows, axis=0)  # [V]
        self._patients = np.append(patients, np.count_nonzero(first.windows.any(axis=1)))
        self.present = patients > 0
        self._values = {
            arm: np.stack(
                [self._draw(evaluation, replicates) for evaluation in evaluations], axis=1
            )
            for arm, evaluations in arms.items()
        }

    @property
    def patients(self) -> int:
        """Number of patients with windows."""
        return int(self._patients[-1])

    def values(self, arm: str) -> Array:
        """Return the metrics by seed, ``[1 + B, S, V, M]``; NaN where a vital has no window."""
        return self._values[arm]

    def values_and_mean(self, arm: str) -> Array:
        """Return `values` and then the mean over vitals, ``[1 + B, S, V + 1, M]``."""
        return _with_mean(self._values[arm])

    def relative(self, arm: str, reference: str) -> Array:
        """Return a / b - 1 within each seed, vitals and then their mean, ``[1 + B, S, V + 1, M]``.

        An arm with a single seed is compared with every seed of the other.
        """
        ours, theirs = np.broadcast_arrays(self._values[arm], self._values[reference])
        blank = np.full(ours.shape, np.nan)
        return _with_mean(np.divide(ours, theirs, out=blank, where=theirs > 0) - 1.0)

    def absolute(self, arm: str, reference: str) -> Array:
        """Return a - b in the metrics' units; shape and seeds as of `relative`.

        The mean over vitals has no meaning for a metric whose unit is the vital's.
        """
        return _with_mean(self._values[arm] - self._values[reference])

    def gain(self, arm: str, reference: str, metric: str) -> Array:
        """Return minus the relative difference, mean over vitals and seeds, ``[1 + B]``."""
        column = self.metrics.index(metric)
        return np.asarray(-self.relative(arm, reference)[:, :, -1, column].mean(axis=1))

    def intervals(self, rows: Array) -> Intervals:
        """Return 95 % intervals of rows ``[1 + B, V or V + 1, M]``.

        Fewer than `LEAST_PATIENTS` patients give an estimate without an interval.
        """
        patients = self._patients[: rows.shape[1], None]
        return percentile_intervals(rows[0], rows[1:]).mask_few_patients(patients)

    def interval(self, draws: Array) -> Interval:
        """Return the interval of one statistic of all vitals, ``[1 + B]``, as `intervals` does."""
        found = percentile_intervals(np.asarray(draws[0]), draws[1:])
        return found.mask_few_patients(self._patients[-1]).at()

    def _draw(self, evaluation: Evaluation, replicates: int) -> Array:
        columns = [evaluation.metrics.index(name) for name in self.metrics]
        drawn_from = evaluation.windows.any(axis=1)
        parts = (evaluation.numerator, evaluation.denominator)
        sums = np.stack([part[drawn_from][..., columns] for part in parts], axis=1)
        totals = sums.sum(axis=0)[None]  # [1, 2, V, M]
        if replicates:
            drawn = resampled_sums(sums, replicates=replicates, seed=_DRAW_SEED)
            totals = np.concatenate([totals, drawn])  # [1 + B, 2, V, M]
        return metric_values(self.metrics, totals[:, 0], totals[:, 1])


def _with_mean(by_vital: Array) -> Array:
    return np.concatenate([by_vital, mean_over_vitals(by_vital)[:, :, None]], axis=2)


def by_scope(
    arms: Mapping[str, Iterable[Mapping[str, Evaluation]]],
    bands: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, list[Evaluation]]]:
    """Return evaluations by scope, arm and seed: all sites, each site, each group of sites.

    Args:
        arms: evaluations by site of each arm and seed.
        bands: sites of each group, by its name.
    """
    listed = {arm: list(seeds) for arm, seeds in arms.items()}
    first = next(iter(listed.values()))[0]
    scopes: dict[str, dict[str, list[Evaluation]]] = {
        ALL: {
            arm: [pool_evaluations(per_site) for per_site in seeds] for arm, seeds in listed.items()
        }
    }
    for site in first:
        scopes[site] = {
            arm: [per_site[site] for per_site in seeds] for arm, seeds in listed.items()
        }
    for band, sites in (bands or {}).items():
        scopes[band] = {
            arm: [pool_evaluations({site: per_site[site] for site in sites}) for per_site in seeds]
            for arm, seeds in listed.items()
        }
    return scopes


def by_group(
    arms: Mapping[str, Iterable[Mapping[str, Evaluation]]],
    groups: Mapping[str, Mapping[str, npt.NDArray[np.bool_]]],
) -> dict[str, dict[str, list[Evaluation]]]:
    """Return evaluations of patient groups, all sites together, by group, arm and seed.

    Args:
        arms: evaluations by site of each arm and seed.
        groups: membership masks over each site's patients, ``[P]``, by group and site.
    """
    listed = {arm: list(seeds) for arm, seeds in arms.items()}
    return {
        group: {
            arm: [
                pool_evaluations({site: _only(one, members[site]) for site, one in scores.items()})
                for scores in seeds
            ]
            for arm, seeds in listed.items()
        }
        for group, members in groups.items()
    }


def _only(evaluation: Evaluation, chosen: npt.NDArray[np.bool_]) -> Evaluation:
    return replace(
        evaluation,
        patient_ids=tuple(np.array(evaluation.patient_ids)[chosen].tolist()),
        numerator=evaluation.numerator[chosen],
        denominator=evaluation.denominator[chosen],
        windows=evaluation.windows[chosen],
        observed=evaluation.observed[chosen],
        below=None,
    )
