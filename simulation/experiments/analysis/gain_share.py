"""The headline's arithmetic: the share of the pooled gain that is kept, and a site's least gain.

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
from simulation.experiments.models.registry import METHODS

_ZERO_SHOT = METHODS["zero-shot"].label
_FEDERATED = METHODS["federated"].label
_CENTRALISED = METHODS["centralised"].label

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Headline:
    """What the comparison comes down to.

    Attributes:
        share: of the centralised gain that the federation keeps; None where the centralised gain
            is not clearly above zero, since a ratio to nothing says nothing.
        share_by_seed: the same within each seed, None where its centralised gain is not above
            zero; the interval knows nothing of how seeds differ.
        worst_site: the site with the least gain of the federated model over zero-shot.
        worst_gain: that gain, with the interval of this site's patients.
    """

    share: Interval | None
    share_by_seed: tuple[float | None, ...]
    worst_site: str
    worst_gain: Interval


def headline_of(analysis: Analysis, metric: str = "wql") -> Headline:
    """Return the headline of a comparison."""
    together = analysis.scopes[ALL]
    share = share_kept(
        together.gain(_FEDERATED, _ZERO_SHOT, metric),
        together.gain(_CENTRALISED, _ZERO_SHOT, metric),
    )
    by_site = {
        site: _interval(analysis.scopes[site].gain(_FEDERATED, _ZERO_SHOT, metric))
        for site in analysis.sites
    }
    worst = min(by_site, key=lambda site: by_site[site].estimate)
    return Headline(share, _by_seed(together, metric), worst, by_site[worst])


def _by_seed(together: Resampled, metric: str) -> tuple[float | None, ...]:
    column = together.metrics.index(metric)
    gains = [
        -together.relative(arm, _ZERO_SHOT)[0, :, -1, column] for arm in (_FEDERATED, _CENTRALISED)
    ]
    return tuple(
        float(ours / whole) if whole > 0 else None for ours, whole in zip(*gains, strict=True)
    )


def share_kept(federated: Array, centralised: Array) -> Interval | None:
    """Return the share of one gain in another, ``[1 + B]`` both, row 0 the patients as they are.

    Returns:
        None where the interval of the centralised gain reaches zero.
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
