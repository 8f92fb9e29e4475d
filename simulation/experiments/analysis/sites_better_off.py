"""Share of the sites that one model serves better than another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from common.evaluation.bootstrap import CONFIDENCE, Interval
from simulation.experiments.analysis.analysis import Analysis


@dataclass(frozen=True)
class BetterOff:
    """Number of sites at which one model's estimate is below another's.

    Attributes:
        better: those sites.
        sites: all sites with an estimate.
        share: their ratio with its 95 % Wilson interval, which takes the sites as independent
            draws. An estimate over a site's few patients is uncertain, which pulls the share
            towards a half.
    """

    better: int
    sites: int
    share: Interval


def better_off(analysis: Analysis, arm: str, reference: str, sites: Iterable[str]) -> BetterOff:
    """Count the sites at which an arm's WQL, the mean over vitals and seeds, is below another's.

    Raises:
        ValueError: no site has an estimate.
    """
    estimates = np.array(
        [analysis.difference(arm, reference, "wql", scope=site).estimate for site in sites]
    )
    known = estimates[np.isfinite(estimates)]
    better = int((known < 0).sum())
    interval = binomtest(better, len(known)).proportion_ci(CONFIDENCE, method="wilson")
    share = Interval(better / len(known), float(interval.low), float(interval.high))
    return BetterOff(better, len(known), share)
