"""The forecasting methods that experiments compare, by name."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from common.names import check_name
from simulation.experiments.cell_cache import RunCell
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
from simulation.experiments.models.statistical import (
    autoregressive,
    exponential_mean,
    exponential_smoothing,
    last_value,
)

EVERYTHING = ("",)
_WINDOWS = ("windows.",)
_NETWORK = ("windows.", "rounds", "seed", "train.")
_FULL = ("backbone", *_NETWORK)


@dataclass(frozen=True)
class Method:
    """A forecasting method.

    Attributes:
        label: its name in tables.
        run: trains and scores a cell.
        reads: prefixes of the settings that its results depend on.
        needs: an optional package that it requires; empty if none.
    """

    label: str
    run: RunCell
    reads: tuple[str, ...]
    needs: str = ""

    @property
    def seeded(self) -> bool:
        """True if its results depend on the seed."""
        return any("seed".startswith(prefix) for prefix in self.reads)

    @property
    def installed(self) -> bool:
        """True if the package that it requires is installed."""
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

LAST_VALUE = METHODS["last-value"].label
ZERO_SHOT = METHODS["zero-shot"].label
LOCAL = METHODS["local"].label
FEDERATED = METHODS["federated"].label
CENTRALISED = METHODS["centralised"].label
FULL = METHODS["federated-full"].label


def method_of(name: str) -> Method:
    """Return a method by name.

    Raises:
        UsageError: the name is unknown.
    """
    return METHODS[check_name("method", name, METHODS)]


def missing_methods() -> list[str]:
    """Return the names of the methods whose package is not installed."""
    return [name for name, method in METHODS.items() if not method.installed]
