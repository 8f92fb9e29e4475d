"""Selection of the best adapter by the sites' own validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.adapter.adapter import Adapter


@dataclass
class BestAdapter:
    """The best adapter so far.

    Attributes:
        adapter: the adapter.
        round: the round that produced it; 0 is the fresh adapter, which forecasts as the frozen
            backbone does.
        score: its score, see `ModelSelection`; None where no site has validated yet.
        stale: number of rounds since without an improvement.
    """

    adapter: Adapter
    round: int = 0
    score: float | None = None
    stale: int = 0


@dataclass
class ModelSelection:
    """Tracks the adapter with the best validation WQL.

    The score is the weighted mean of each site's WQL relative to its own WQL of the fresh adapter.
    Sites differ in how hard their patients are to forecast: a plain mean would favour a round in
    which the hardest site did not reply. The fresh adapter is a candidate too, and is released
    where training only makes the forecasts worse.

    Attributes:
        best: the best adapter so far.
        baseline: each site's WQL of the fresh adapter.
    """

    best: BestAdapter
    baseline: dict[str, float] = field(default_factory=dict)

    def update(
        self,
        number: int,
        adapter: Adapter,
        wql: Mapping[str, float],
        weights: Mapping[str, float],
    ) -> bool:
        """Add the validation of a round's adapter.

        Args:
            number: the round that produced the adapter.
            adapter: the adapter.
            wql: validation WQL of the sites that validated.
            weights: weight of each site.

        Returns:
            Whether it is the best so far.
        """
        if number == 0:
            self.baseline = {site: value for site, value in wql.items() if value > 0}
        score = self._score(wql, weights)
        if score is None:
            # Without any validation so far, the latest adapter is selected.
            better = self.best.score is None
        else:
            better = self.best.score is None or score < self.best.score
        if better:
            self.best = BestAdapter(adapter, number, score)
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
