"""Statistics of a site table as they may leave: counted, then suppressed or with noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.node.statistics.counts import count_patients
from client.node.statistics.noise import NoisePlan, noisy_statistics
from client.node.statistics.suppression import exact_statistics
from client.training.random_source import Randomness
from common.data.site_table import SiteTable
from common.data.statistics.reply import SiteStatistics

if TYPE_CHECKING:
    import pandas as pd


def site_statistics(
    table: SiteTable,
    least: int,
    plan: NoisePlan | None,
    *,
    source: str,
    rule: str,
    described: pd.DataFrame | None = None,
    randomness: Randomness | None = None,
) -> SiteStatistics:
    """Return the statistics of a site table that may leave.

    Args:
        table: the site table.
        least: the site's threshold.
        plan: the noise; None = exact counts without small ones.
        source: origin of the rows, in the site's words.
        rule: selection of the patients, in the site's words.
        described: age band and sex of patients; None at a hospital.
        randomness: source of the noise; None = the operating system's.
    """
    counts = count_patients(table, described)
    if plan is None:
        sent = {"privacy": None, **exact_statistics(counts, least)}
    else:
        sent = noisy_statistics(counts, plan, randomness or Randomness.of_system())
    about = {"source": source, "rule": rule, "step_minutes": counts.step_minutes}
    return SiteStatistics.model_validate({"threshold": least, **about, **sent})
