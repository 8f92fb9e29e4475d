"""Which round was best, by the sites' own validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.adapter.adapter import Adapter


@dataclass
class Best:
    """The best adapter so far.

    Attributes:
        adapter: the adapter.
        round: the round that made it; 0 is the fresh one, which forecasts as the frozen backbone.
        score: its score, see `Selection`; None where no site has validated yet.
        stale: rounds since then that were not better.
    """

    adapter: Adapter
    round: int = 0
    score: float | None = None
    stale: int = 0


@dataclass
class Selection:
    """Keeps the best adapter by validation WQL.

    A site's WQL counts relative to its own WQL of the fresh adapter: sites differ in how hard their
    patients are to forecast, so that a plain mean would call the round best in which the hardest
    site did not answer. The fresh adapter is a candidate too: where training only harms, it is what
    is released.

    Attributes:
        best: the best so far.
        baseline: each site's WQL of the fresh adapter.
    """

    best: Best
    baseline: dict[str, float] = field(default_factory=dict)

    def note(
        self,
        number: int,
        adapter: Adapter,
        wql: Mapping[str, float],
        weights: Mapping[str, float],
    ) -> bool:
        """Take the validation of a round's adapter into account.

        Args:
            number: the round that made the adapter.
            adapter: the adapter.
            wql: validation WQL by site, of those that answered.
            weights: weight of each site.

        Returns:
            Whether it is the best so far.
        """
        if number == 0:
            self.baseline = {site: value for site, value in wql.items() if value > 0}
        score = self._score(wql, weights)
        if score is None:
            # Nobody validates: the latest is as good a guess as there is.
            better = self.best.score is None
        else:
            better = self.best.score is None or score < self.best.score
        if better:
            self.best = Best(adapter, number, score)
        else:
            self.best.stale += 1
        return better

    def _score(self, wql: Mapping[str, float], weights: Mapping[str, float]) -> float | None:
        """Weighted mean of WQL relative to the baseline; None where no site has both."""
        sites = sorted(site for site in wql if site in self.baseline and site in weights)
        total = sum(weights[site] for site in sites)
        if not sites:
            return None
        return sum(weights[site] * wql[site] / self.baseline[site] for site in sites) / total
