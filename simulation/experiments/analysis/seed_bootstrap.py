"""Several models, several seeds, the same patients: values and differences with their intervals.

As in `common.evaluation.bootstrap`, what is drawn anew is the patient, with all windows under all
models and all seeds at once; a figure is first computed within each seed and then averaged over the
seeds. An interval tells how the mean over these very seeds would vary over patients. How it varies
over seeds is another matter, and is told beside it as the range of the seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from common.evaluation.bootstrap import (
    DEFAULT_REPLICATES,
    Intervals,
    percentile_intervals,
    resampled_sums,
)
from common.evaluation.evaluate import Evaluation, mean_over_vitals, metric_values, pool_evaluations

Array = npt.NDArray[np.float64]

ALL = "all"
"""The scope of all sites' patients together."""

SEED = 0
"""Of the draws: one for all arms, so that what is hard about a patient cancels."""


class Resampled:
    """The metrics of several arms on the patients as they are and on each draw of them.

    Row 0 of every array is the patients as they are, the other B rows are the draws.

    Args:
        arms: of each arm its evaluations, one a seed, all on the same windows.
        metrics: the M names.
        replicates: number B of draws.
    """

    def __init__(
        self,
        arms: Mapping[str, Sequence[Evaluation]],
        metrics: Sequence[str],
        replicates: int = DEFAULT_REPLICATES,
    ) -> None:
        self.metrics = tuple(metrics)
        self._values = {
            arm: np.stack(
                [self._draw(evaluation, replicates) for evaluation in evaluations], axis=1
            )
            for arm, evaluations in arms.items()
        }
        first = next(iter(arms.values()))[0]
        patients = np.count_nonzero(first.windows, axis=0)  # [V]
        self._alone = np.append(patients, np.count_nonzero(first.windows.any(axis=1))) < 2
        self.present = patients > 0

    def values(self, arm: str) -> Array:
        """Return the metrics by seed, ``[1 + B, S, V, M]``; NaN where a vital has no window."""
        return self._values[arm]

    def relative(self, arm: str, reference: str) -> Array:
        """Return a / b - 1 within each seed, vitals and then their mean, ``[1 + B, S, V + 1, M]``.

        What was run with one seed stands beside every seed of the other.
        """
        ours, theirs = np.broadcast_arrays(self._values[arm], self._values[reference])
        blank = np.full(ours.shape, np.nan)
        share = np.divide(ours, theirs, out=blank, where=theirs > 0) - 1.0
        return np.concatenate([share, mean_over_vitals(share)[:, :, None]], axis=2)

    def gain(self, arm: str, reference: str, metric: str) -> Array:
        """Return by how much an arm is below a reference in the mean over vitals, ``[1 + B]``."""
        column = self.metrics.index(metric)
        return np.asarray(-self.relative(arm, reference)[:, :, -1, column].mean(axis=1))

    def intervals(self, rows: Array) -> Intervals:
        """Return 95 % intervals of rows ``[1 + B, V or V + 1, M]``.

        One patient alone gives a point and no interval.
        """
        alone = self._alone[: rows.shape[1]]
        found = percentile_intervals(rows[0], rows[1:])
        low, high = found.low.copy(), found.high.copy()
        low[alone], high[alone] = np.nan, np.nan
        return Intervals(found.estimate, low, high)

    def _draw(self, evaluation: Evaluation, replicates: int) -> Array:
        columns = [evaluation.metrics.index(name) for name in self.metrics]
        drawn_from = evaluation.windows.any(axis=1)
        parts = (evaluation.numerator, evaluation.denominator)
        sums = np.stack([part[drawn_from][..., columns] for part in parts], axis=1)
        drawn = resampled_sums(sums, replicates=replicates, seed=SEED)
        totals = np.concatenate([sums.sum(axis=0)[None], drawn])  # [1 + B, 2, V, M]
        return metric_values(self.metrics, totals[:, 0], totals[:, 1])


def by_scope(
    arms: Mapping[str, Iterable[Mapping[str, Evaluation]]],
) -> dict[str, dict[str, list[Evaluation]]]:
    """Return evaluations by scope (all sites together, then each site), arm and seed.

    Args:
        arms: of each arm, per seed, the evaluations by site.
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
    return scopes


def by_group(
    arms: Mapping[str, Iterable[Mapping[str, Evaluation]]],
    groups: Mapping[str, Mapping[str, npt.NDArray[np.bool_]]],
) -> dict[str, dict[str, list[Evaluation]]]:
    """Return the evaluations of groups of patients, all sites together, by group, arm and seed.

    Args:
        arms: of each arm, per seed, the evaluations by site.
        groups: of each group, by site, which of the site's patients belong to it, ``[P]``.
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
