"""Sections of a run's settings; `common.config.run_config` joins and parses them.

Each field's description is the help that `python -m simulation settings` and docs/reference show.
A new key also needs its default in pyproject.toml, `[tool.flwr.app.config]`. A key of a section in
`client.policy.run_settings.GUARDED` is refused by each site until its policy.toml names it.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from common.config.field_types import LARGEST_INT, OneOf, ZeroOr
from common.config.strict_model import StrictModel
from common.data.vitals import VITAL_NAMES
from common.data.windows import WindowSettings
from common.errors import UsageError
from common.names import NAME_PATTERN, check_name

LORA_SCOPES = ("attention", "attention+feed-forward")
LORA_TRAINED = ("auto", "ab", "b")
WEIGHTINGS = ("auto", "patients", "equal")
SCHEDULES = ("cosine", "constant")
DEVICES = ("auto", "cpu", "cuda", "mps")
WIRE_DTYPES = ("float32", "float16", "int8")
RULES = ("fedavg", "ffa", "svd", "flora", "fedex", "median", "trimmed-mean", "krum", "multi-krum")
RANK_MIXING_RULES = ("svd", "flora")
"""Rules that average adapters of different ranks."""
OPTIMIZERS = ("none", "fedavgm", "fedadam", "fedyogi")
BY_NAME_RULES = ("fedavg", "ffa", "median", "trimmed-mean", "krum", "multi-krum")
"""Rules that give one A and one B of the run's rank, which a server optimizer needs."""

MAX_RANK = 1024
"""Largest rank of an adapter."""
MOST_STEPS = 100_000
"""Largest number of optimiser steps a round."""
_MOST_CHARACTERS = 10_000
"""Longest text: the settings come from the coordinator and are stored with every artefact."""

Text = Annotated[str, Field(max_length=_MOST_CHARACTERS)]

_FIXED_WEIGHT = re.compile(rf"({NAME_PATTERN})=([0-9]+(?:\.[0-9]+)?)")


def setting(default: Any, text: str, low: float | None = None, high: float | None = None) -> Any:
    """Return a field with its line of help and its range, ends included.

    A whole number without a highest value is bounded by what Flower's settings carry.
    """
    bounded = low is not None and high is None and isinstance(default, int)
    return Field(default=default, description=text, ge=low, le=LARGEST_INT if bounded else high)


class LoraConfig(StrictModel, title="lora"):
    """`lora.*`: the adapter (Hu et al., arXiv 2106.09685)."""

    rank: int = setting(8, "rank r of each pair of matrices", 1, MAX_RANK)
    alpha: float = setting(
        16.0, "scale: an update is (alpha / rank) B A, with alpha / rank from 0.001 to 1000"
    )
    dropout: float = setting(0.0, "dropout on the adapter's input while training", 0, 0.99)
    scope: Annotated[str, OneOf(LORA_SCOPES)] = setting(
        "attention", "adapted projections: attention, or attention+feed-forward"
    )
    train: Annotated[str, OneOf(LORA_TRAINED)] = setting(
        "auto",
        "trained matrices: ab, or b (FFA-LoRA, arXiv 2403.12313: A keeps its initial "
        "value); auto is b where privacy is on",
    )
    min_rank: int = setting(
        0, "least rank that a site may choose for itself; 0 = sites may not choose", 0
    )

    @model_validator(mode="after")
    def _check_ranks(self) -> Self:
        scale = self.alpha / self.rank
        if not 1e-3 <= scale <= 1e3:
            raise UsageError(f"lora.alpha / lora.rank must be from 0.001 to 1000, got {scale:g}")
        if self.min_rank > self.rank:
            raise UsageError(f"lora.min-rank must be from 0 to {self.rank}, got {self.min_rank}")
        return self

    def at_rank(self, rank: int) -> LoraConfig:
        """Return the settings of a site with a rank of its own; alpha / rank stays the run's."""
        return self.replace(rank=rank, alpha=self.alpha * rank / self.rank, min_rank=0)


class WindowConfig(StrictModel, title="windows"):
    """`windows.*`: cutting of stays into windows."""

    context: int = setting(
        48, "steps that the model sees; or a time, e.g. 6h with step-minutes=5", 1, 8192
    )
    horizon: int = setting(6, "steps that it forecasts, or a time", 1, 1024)
    stride: int = setting(6, "steps between two forecast origins of a stay, or a time", 1, 8192)
    min_context: int = setting(8, "least observed values in a context", 1, 8192)
    vitals: Text = setting("all", "vital signs, separated by commas, or all")

    @model_validator(mode="after")
    def _check_vitals(self) -> Self:
        self.settings()
        if not self.names():
            raise UsageError("windows.vitals names no vital sign; name some, or all")
        for name in self.names():
            check_name("vital in windows.vitals", name, VITAL_NAMES)
        return self

    def settings(self) -> WindowSettings:
        """Return the settings in the form that `common.data.windows` takes."""
        return WindowSettings(self.context, self.horizon, self.stride, self.min_context)

    def names(self) -> tuple[str, ...]:
        """Return the vital signs by name, in the order of the site table."""
        if self.vitals == "all":
            return VITAL_NAMES
        given = tuple(name.strip() for name in self.vitals.split(",") if name.strip())
        return tuple(
            sorted(set(given), key=lambda n: VITAL_NAMES.index(n) if n in VITAL_NAMES else 0)
        )


class TrainConfig(StrictModel, title="train"):
    """`train.*`: a site's local training."""

    epochs: int = setting(
        1, "passes over the site's windows a round; ignored if steps > 0", 0, 1000
    )
    steps: int = setting(0, "optimiser steps a round; 0 = by epochs", 0, MOST_STEPS)
    batch: int = setting(64, "windows a step", 1, 65_536)
    learning_rate: float = setting(3e-3, "AdamW's learning rate in round 1", 1e-12, 10)
    schedule: Annotated[str, OneOf(SCHEDULES)] = setting(
        "cosine", "learning rate over the rounds: cosine or constant"
    )
    weight_decay: float = setting(0.0, "AdamW's weight decay", 0, 10)
    clip: float = setting(1.0, "largest norm of a step's gradient; 0 = no clipping", 0, 1_000_000)
    proximal: float = setting(
        0.0, "FedProx's mu (arXiv 1812.06127): pull towards the round's adapter", 0, 1000
    )
    device: Annotated[str, OneOf(DEVICES)] = setting(
        "auto", "auto (the first available of cuda, mps, cpu), cpu, cuda or mps"
    )
    threads: int = setting(
        1, "CPU threads; 1 gives the same bytes on equal CPUs, 0 = torch's choice", 0, 1024
    )

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.epochs == 0 and self.steps == 0:
            raise UsageError("train.epochs and train.steps are both 0; nothing would be trained")
        return self


class FederationConfig(StrictModel, title="federation"):
    """`federation.*`: the rounds on the server."""

    min_sites: int = setting(2, "least replies for a round; with fewer the run ends", 1)
    fraction: float = setting(
        1.0, "share of the sites requested in a round, sampled from the seed", 1e-6, 1
    )
    weights: Text = setting(
        "auto",
        "weight of a site's adapter: patients, equal, or fixed ones as ccu=2,micu=1; "
        "auto is patients, and equal where privacy is on",
    )
    wait_s: float = setting(300.0, "longest wait for min-sites nodes to connect, in seconds", 1e-3)
    round_timeout_s: float = setting(3600.0, "longest wait for a round's replies, in seconds", 1e-3)
    patience: int = setting(
        0, "rounds without a better validation WQL before stopping; 0 = never", 0
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        self.fixed_weights()
        return self

    def fixed_weights(self) -> dict[str, float]:
        """Return the weights that the settings fix by site; empty where they fix none.

        Raises:
            UsageError: where `weights` is neither a known word nor such a list.
        """
        if "=" not in self.weights:
            check_name("federation.weights", self.weights, WEIGHTINGS)
            return {}
        fixed: dict[str, float] = {}
        for part in self.weights.split(","):
            match = _FIXED_WEIGHT.fullmatch(part.strip())
            if match is None or match[1] in fixed or float(match[2]) <= 0:
                raise UsageError(
                    f"federation.weights takes SITE=WEIGHT,... with weights above 0, got {part!r}"
                )
            fixed[match[1]] = float(match[2])
        return fixed


class WireConfig(StrictModel, title="wire"):
    """`wire.*`: encoding of an adapter on the network."""

    dtype: Annotated[Literal["float32", "float16", "int8"], OneOf(WIRE_DTYPES)] = setting(
        "float32",
        "float32, float16 (half the bytes) or int8 (a quarter; one scale a matrix, the "
        "rounding error stays at the site and is added in the next round)",
    )


class AggregationConfig(StrictModel, title="aggregation"):
    """`aggregation.*`: aggregation of the sites' adapters, and its limits."""

    rule: Annotated[str, OneOf(("auto", *RULES))] = setting(
        "auto", f"auto (ffa where only B is trained, else fedavg), {', '.join(RULES)}"
    )
    max_rank: int = setting(
        64, "flora, fedex: largest rank of the residual sent beside the adapter", 1
    )
    trim: float = setting(0.2, "trimmed-mean: share of the sites cut off at either end", 0, 0.49)
    byzantine: int = setting(1, "krum, multi-krum: number of arbitrary sites to withstand", 0)
    optimizer: Annotated[str, OneOf(OPTIMIZERS)] = setting(
        "none", f"server optimizer on the averaged update: {', '.join(OPTIMIZERS)}"
    )
    learning_rate: float = setting(
        0.0, "of the server optimizer; 0 = 1 for fedavgm, 0.001 for fedadam and fedyogi", 0
    )
    momentum: float = setting(0.9, "fedavgm's momentum, beta1 of fedadam and fedyogi", 0, 0.9999)
    beta2: float = setting(0.99, "beta2 of fedadam and fedyogi", 0, 0.9999)
    tau: float = setting(1e-3, "fedadam, fedyogi: added to the root of the second moment", 1e-12)
    norm_factor: float = setting(
        10.0, "largest update of a site, in medians of the round's updates; 0 = no bound", 0
    )

    @model_validator(mode="after")
    def _check_optimizer(self) -> Self:
        if self.optimizer != "none" and self.rule not in ("auto", *BY_NAME_RULES):
            raise UsageError(
                f"aggregation.optimizer = {self.optimizer} works on A and B by name, which "
                f"aggregation.rule = {self.rule} does not keep; take one of: "
                f"{', '.join(BY_NAME_RULES)}"
            )
        return self

    @property
    def rate(self) -> float:
        """The optimizer's learning rate; FedAdam and FedYogi move each number by about as much."""
        if self.learning_rate > 0:
            return self.learning_rate
        return 1.0 if self.optimizer in ("none", "fedavgm") else 1e-3


class PrivacyConfig(StrictModel, title="privacy"):
    """`privacy.*`: differential privacy with the patient as its unit; off by default."""

    epsilon: Annotated[float, ZeroOr(1e-3, 100)] = setting(
        0.0, "budget of a site's whole run; 0 = privacy is off"
    )
    delta: float = setting(1e-5, "delta of the (epsilon, delta) guarantee", 1e-12, 0.01)
    noise_multiplier: Annotated[float, ZeroOr(0.1, 1000)] = setting(
        0.0, "use instead of epsilon; 0 = unset"
    )
    learning_rate: float = setting(
        3.0,
        "SGD's learning rate in round 1; lower it with epsilon: about 2 at 3, 0.3 at 1",
        1e-6,
        1000,
    )
    clip_norm: float = setting(
        0.05, "clipping norm C of a patient's gradient in a step", 1e-6, 10_000
    )
    sample_rate: float = setting(1.0, "probability q that a step samples a patient", 1e-4, 1)
    patient_windows: int = setting(16, "most windows of a patient in a step, sampled anew", 1, 1024)
    chunk: int = setting(
        256, "windows whose gradients are in memory at once, at least patient-windows", 1, 65_536
    )
    noise_seed: int = setting(
        -1, "-1 = from the operating system; a seed is for simulations, no hospital takes one", -1
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.epsilon > 0 and self.noise_multiplier > 0:
            raise UsageError(
                "privacy.epsilon and privacy.noise-multiplier are both given; give one, the other "
                "follows from it"
            )
        if self.chunk < self.patient_windows:
            raise UsageError(
                f"privacy.chunk must be at least {self.patient_windows}, privacy.patient-windows, "
                f"got {self.chunk}"
            )
        return self

    @property
    def on(self) -> bool:
        """True if a guarantee is required."""
        return self.epsilon > 0 or self.noise_multiplier > 0

    def steps_an_epoch(self) -> int:
        """Return the steps in which each patient is sampled once on average.

        It does not depend on the number of patients: the length of training must not reveal it.
        """
        return math.ceil(1.0 / self.sample_rate)
