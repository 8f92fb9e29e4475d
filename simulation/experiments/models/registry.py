"""The ways to forecast that experiments compare, by name: what each does with a cell.

Last value and weighted mean, each with the spread of its errors at the site's own patients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from common.evaluation.baselines import Baseline, ExponentiallyWeightedMean, LastValue
from common.names import check_name
from simulation.experiments.cell_cache import Cell, Outcome
from simulation.experiments.models.federated import federated
from simulation.experiments.models.fine_tuned import (
    centralised,
    centralised_full,
    federated_full,
    from_scratch,
    local,
    nhits,
    patchtst,
    zero_shot,
)
from simulation.experiments.models.scoring import cohort_windows, score
from simulation.experiments.models.statistical import autoregressive, exponential_smoothing


def last_value(cell: Cell, _run: Path, _say: Callable[[str], None]) -> Outcome:
    """Score the last observed value."""
    return _fitted(cell, LastValue())


def exponential_mean(cell: Cell, _run: Path, _say: Callable[[str], None]) -> Outcome:
    """Score the exponentially weighted mean."""
    return _fitted(cell, ExponentiallyWeightedMean())


def _fitted(cell: Cell, baseline: Baseline) -> Outcome:
    sites = cohort_windows(cell.config)
    return Outcome(score(sites, lambda _, site: baseline.fit(site.train)))


Say = Callable[[str], None]
"""Told in words what is being done."""

EVERYTHING = ("",)
_WINDOWS = ("windows.",)
_NETWORK = ("windows.", "rounds", "seed", "train.")
_FULL = ("backbone", *_NETWORK)


@dataclass(frozen=True)
class Method:
    """A way to forecast.

    Attributes:
        label: how tables call it.
        run: trains and scores a cell; given the cell's run folder and whom to tell.
        reads: beginnings of the settings that decide its numbers.
        needs: a package that not everybody has, if any.
    """

    label: str
    run: Callable[[Cell, Path, Say], Outcome]
    reads: tuple[str, ...]
    needs: str = ""

    @property
    def seeded(self) -> bool:
        """Whether another seed gives other numbers."""
        return any("seed".startswith(beginning) for beginning in self.reads)

    @property
    def installed(self) -> bool:
        """Whether the package that it needs is there."""
        return not self.needs or find_spec(self.needs) is not None


METHODS: dict[str, Method] = {
    "last-value": Method("Last value", last_value, _WINDOWS),
    "ewma": Method("Weighted mean", exponential_mean, _WINDOWS),
    "ar": Method("Autoregressive", autoregressive, _WINDOWS, "statsforecast"),
    "ets": Method("Exponential smoothing", exponential_smoothing, _WINDOWS, "statsforecast"),
    "zero-shot": Method("Zero-shot", zero_shot, ("windows.", "backbone", "train.threads")),
    "local": Method("LoRA, each site alone", local, EVERYTHING),
    "federated": Method("LoRA, federated", federated, EVERYTHING),
    "centralised": Method("LoRA, data pooled", centralised, EVERYTHING),
    "federated-full": Method("All weights, federated", federated_full, _FULL),
    "centralised-full": Method("All weights, data pooled", centralised_full, _FULL),
    "scratch": Method("From scratch, data pooled", from_scratch, _FULL),
    "nhits": Method("N-HiTS, data pooled", nhits, _NETWORK, "neuralforecast"),
    "patchtst": Method("PatchTST, data pooled", patchtst, _NETWORK, "neuralforecast"),
}


def method_of(name: str) -> Method:
    """Return a method by name.

    Raises:
        UsageError: where there is none.
    """
    return METHODS[check_name("method", name, METHODS)]


def missing_methods() -> list[str]:
    """Return the names of the methods whose package is not installed."""
    return [name for name, method in METHODS.items() if not method.installed]
