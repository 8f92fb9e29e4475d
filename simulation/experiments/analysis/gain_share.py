"""Share of the pooled gain that the federation keeps, and the least gain of a site.

The gain of a model is minus the relative difference of its WQL to zero-shot, in the mean over vital
signs, computed within each seed and then averaged. The share is the federated gain over the
centralised one, on the patients as they are and on each draw of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.evaluation.bootstrap import Interval, percentile_intervals
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.seed_bootstrap import ALL, Resampled
from simulation.experiments.models.registry import CENTRALISED, FEDERATED, ZERO_SHOT

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class GainShare:
    """Headline figures of the comparison.

    Attributes:
        share: share of the centralised gain that the federation keeps; None if the centralised
            gain is not clearly above zero, where a ratio has no meaning.
        share_by_seed: the same within each seed, None where its centralised gain is not above
            zero; the interval of `share` is over patients and does not cover seeds.
        worst_site: the site with the least gain of the federated model over zero-shot, of those
            with enough test patients for an interval; empty if there is none.
        worst_gain: that gain, with the interval over this site's patients; None without a site.
    """

    share: Interval | None
    share_by_seed: tuple[float | None, ...]
    worst_site: str
    worst_gain: Interval | None


def measure_gain_share(analysis: Analysis, metric: str = "wql") -> GainShare:
    """Return the headline figures of a comparison."""
    together = analysis.scopes[ALL]
    share = share_kept(
        together.gain(FEDERATED, ZERO_SHOT, metric),
        together.gain(CENTRALISED, ZERO_SHOT, metric),
    )
    by_site = {
        site: scope.interval(scope.gain(FEDERATED, ZERO_SHOT, metric))
        for site, scope in ((site, analysis.scopes[site]) for site in analysis.comparable_sites)
    }
    worst = min(by_site, key=lambda site: by_site[site].estimate, default="")
    return GainShare(share, _by_seed(together, metric), worst, by_site.get(worst))


def _by_seed(together: Resampled, metric: str) -> tuple[float | None, ...]:
    column = together.metrics.index(metric)
    gains = [
        -together.relative(arm, ZERO_SHOT)[0, :, -1, column] for arm in (FEDERATED, CENTRALISED)
    ]
    return tuple(
        float(ours / whole) if whole > 0 else None for ours, whole in zip(*gains, strict=True)
    )


def share_kept(federated: Array, centralised: Array) -> Interval | None:
    """Return the ratio of two gains with its interval.

    Args:
        federated: ``[1 + B]``; row 0 is the patients as they are, the others are the draws.
        centralised: ``[1 + B]`` likewise.

    Returns:
        None if the interval of the centralised gain includes zero.
    """
    whole = _interval(centralised)
    if not whole.low > 0:
        return None
    blank = np.full(centralised.shape, np.nan)
    shares = np.divide(federated, centralised, out=blank, where=centralised > 0)
    return _interval(shares)


def _interval(draws: Array) -> Interval:
    """Return the interval of a statistic, ``[1 + B]``, row 0 the patients as they are."""
    return percentile_intervals(np.asarray(draws[0]), draws[1:]).at()
