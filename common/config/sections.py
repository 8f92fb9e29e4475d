"""Sections of the run's settings; `common.config.run_config` joins and parses them.

Each field's `help` is the line that `python -m simulation settings` and the reference of keys show.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Literal

from common.config.ranges import Range, check_ranges, setting
from common.data.site_table import VITAL_NAMES
from common.data.windows import WindowSettings
from common.errors import UsageError
from common.names import NAME_PATTERN, check_name

LORA_SCOPES = ("attention", "attention+feed-forward")
LORA_TRAINED = ("auto", "ab", "b")
WEIGHTINGS = ("auto", "patients", "equal")
SCHEDULES = ("cosine", "constant")
DEVICES = ("auto", "cpu", "cuda", "mps")
WIRE_DTYPES = ("float32", "float16", "int8")
RULES = (
    "fedavg",
    "ffa",
    "svd",
    "flora",
    "fedex",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
)
RANK_MIXING_RULES = ("svd", "flora")
"""Rules that take sites of different ranks."""
OPTIMIZERS = ("none", "fedavgm", "fedadam", "fedyogi")
BY_NAME_RULES = ("fedavg", "ffa", "median", "trimmed-mean", "krum", "multi-krum")
"""Rules that end in one A and one B of the run's rank, on which a server optimizer can work."""

ALPHA_OVER_RANK = Range(1e-3, 1e3)
"""Where the scale of an adapter, alpha / rank, may lie."""

MOST_STEPS = 100_000
"""Largest number of optimiser steps a round."""

_FIXED_WEIGHT = re.compile(rf"({NAME_PATTERN})=([0-9]+(?:\.[0-9]+)?)")


@dataclass(frozen=True)
class LoraConfig:
    """`lora.*`: the adapter (Hu et al., arXiv 2106.09685)."""

    rank: int = setting(8, "rank r of each pair of matrices", Range(1, 1024))
    alpha: float = setting(
        16.0, f"scale: an update is (alpha / rank) B A, with alpha / rank {ALPHA_OVER_RANK}"
    )
    dropout: float = setting(0.0, "dropout on the adapter's input while training", Range(0, 0.99))
    scope: str = setting("attention", "which projections: attention, or attention+feed-forward")
    train: str = setting(
        "auto",
        "which matrices: ab, or b (FFA-LoRA, arXiv 2403.12313: A stays as the seed drew it); "
        "auto is b where privacy is on",
    )
    min_rank: int = setting(0, "least rank that a site may choose for itself; 0 = none may choose")

    def __post_init__(self) -> None:
        check_ranges("lora", self)
        ALPHA_OVER_RANK.check("lora.alpha / lora.rank", self.alpha / self.rank)
        check_name("lora.scope", self.scope, LORA_SCOPES)
        check_name("lora.train", self.train, LORA_TRAINED)
        Range(0, self.rank).check("lora.min-rank", self.min_rank)

    def at_rank(self, rank: int) -> LoraConfig:
        """Return the settings of a site with a rank of its own; alpha / rank stays the run's."""
        return replace(self, rank=rank, alpha=self.alpha * rank / self.rank, min_rank=0)


@dataclass(frozen=True)
class WindowConfig:
    """`windows.*`: how stays become windows."""

    context: int = setting(48, "steps that the model sees", Range(1, 8192))
    horizon: int = setting(6, "steps that it forecasts", Range(1, 1024))
    stride: int = setting(
        6, "steps between two forecast origins of a stay, in training", Range(1, 8192)
    )
    min_context: int = setting(8, "least observed values in a context", Range(1, 8192))
    vitals: str = setting("all", "vital signs, separated by commas, or all")

    def __post_init__(self) -> None:
        check_ranges("windows", self)
        self.settings()
        if not self.names():
            raise UsageError("windows.vitals names no vital sign; name some, or all")
        for name in self.names():
            check_name("vital in windows.vitals", name, VITAL_NAMES)

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


@dataclass(frozen=True)
class TrainConfig:
    """`train.*`: a site's local training."""

    epochs: int = setting(
        1, "passes over the site's windows a round; ignored where steps > 0", Range(0, 1000)
    )
    steps: int = setting(0, "optimiser steps a round; 0 = by epochs", Range(0, MOST_STEPS))
    batch: int = setting(64, "windows a step", Range(1, 65_536))
    learning_rate: float = setting(3e-3, "of AdamW, in round 1", Range(1e-12, 10))
    schedule: str = setting("cosine", "of the learning rate over the rounds: cosine or constant")
    weight_decay: float = setting(0.0, "of AdamW", Range(0, 10))
    clip: float = setting(
        1.0, "largest norm of a step's gradient; 0 = no clipping", Range(0, 1_000_000)
    )
    proximal: float = setting(
        0.0, "FedProx's mu (arXiv 1812.06127): pull towards the round's adapter", Range(0, 1000)
    )
    device: str = setting("auto", "auto (cuda, mps or cpu, as there is), cpu, cuda or mps")
    threads: int = setting(
        1, "CPU threads; 1 repeats bytes on like CPUs, 0 = torch's choice", Range(0, 1024)
    )

    def __post_init__(self) -> None:
        check_ranges("train", self)
        if self.epochs == 0 and self.steps == 0:
            raise UsageError("train.epochs and train.steps are both 0; nothing would be trained")
        check_name("train.schedule", self.schedule, SCHEDULES)
        check_name("train.device", self.device, DEVICES)


@dataclass(frozen=True)
class FederationConfig:
    """`federation.*`: how the server conducts the rounds."""

    min_sites: int = setting(
        2, "least sites whose replies make a round; fewer end the run", Range(1)
    )
    fraction: float = setting(
        1.0, "share of the sites asked in a round, drawn anew from the seed", Range(1e-6, 1)
    )
    weights: str = setting(
        "auto",
        "weight of a site's adapter: patients, equal, or fixed ones as ccu=2,micu=1; auto is "
        "patients, and equal where privacy is on",
    )
    wait_s: float = setting(
        300.0, "longest wait for min-sites nodes to be there, in seconds", Range(1e-3)
    )
    round_timeout_s: float = setting(
        3600.0, "longest wait for a round's replies, in seconds", Range(1e-3)
    )
    patience: int = setting(
        0, "rounds without a better validation WQL before stopping; 0 = never", Range(0)
    )

    def __post_init__(self) -> None:
        check_ranges("federation", self)
        self.fixed_weights()

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


@dataclass(frozen=True)
class WireConfig:
    """`wire.*`: how an adapter travels."""

    dtype: Literal["float32", "float16", "int8"] = setting(
        "float32",
        "float32, float16 (half the bytes) or int8 (a quarter; a scale a matrix, the error kept at "
        "the site and added in the next round)",
    )

    def __post_init__(self) -> None:
        check_name("wire.dtype", self.dtype, WIRE_DTYPES)


@dataclass(frozen=True)
class AggregationConfig:
    """`aggregation.*`: how the sites' adapters become one, and what guards it."""

    rule: str = setting(
        "auto", f"auto (ffa where only B is trained, else fedavg), {', '.join(RULES)}"
    )
    max_rank: int = setting(
        64, "flora, fedex: largest rank of what is carried beside the adapter", Range(1)
    )
    trim: float = setting(
        0.2, "trimmed-mean: share of the sites cut off at either end", Range(0, 0.49)
    )
    byzantine: int = setting(1, "krum, multi-krum: sites that may be arbitrary", Range(0))
    optimizer: str = setting(
        "none", f"of the server, on the averaged update: {', '.join(OPTIMIZERS)}"
    )
    learning_rate: float = setting(
        0.0, "of the server's optimizer; 0 = 1 for fedavgm, 0.001 for fedadam and fedyogi", Range(0)
    )
    momentum: float = setting(
        0.9, "fedavgm's momentum, beta1 of fedadam and fedyogi", Range(0, 0.9999)
    )
    beta2: float = setting(0.99, "beta2 of fedadam and fedyogi", Range(0, 0.9999))
    tau: float = setting(
        1e-3, "fedadam, fedyogi: what is added to the root of the second moment", Range(1e-12)
    )
    norm_factor: float = setting(
        10.0, "largest update of a site, in medians of the round's updates; 0 = no bound", Range(0)
    )

    def __post_init__(self) -> None:
        check_name("aggregation.rule", self.rule, ("auto", *RULES))
        check_ranges("aggregation", self)
        check_name("aggregation.optimizer", self.optimizer, OPTIMIZERS)
        if self.optimizer != "none" and self.rule not in ("auto", *BY_NAME_RULES):
            raise UsageError(
                f"aggregation.optimizer = {self.optimizer} works on A and B by name, which "
                f"aggregation.rule = {self.rule} does not keep; take one of: "
                f"{', '.join(BY_NAME_RULES)}"
            )

    @property
    def rate(self) -> float:
        """The optimizer's learning rate; FedAdam and FedYogi move each number by about as much."""
        if self.learning_rate > 0:
            return self.learning_rate
        return 1.0 if self.optimizer in ("none", "fedavgm") else 1e-3


@dataclass(frozen=True)
class PrivacyConfig:
    """`privacy.*`: differential privacy whose unit is the patient; off unless asked for."""

    epsilon: float = setting(
        0.0, "budget of a site's whole run; 0 = privacy is off", Range(1e-3, 100, or_zero=True)
    )
    delta: float = setting(1e-5, "of the (epsilon, delta) guarantee", Range(1e-12, 0.01))
    noise_multiplier: float = setting(
        0.0, "given in epsilon's place, which then follows; 0 = no", Range(0.1, 1000, or_zero=True)
    )
    learning_rate: float = setting(
        3.0, "of SGD in round 1; lower it with epsilon: about 2 at 3, 0.3 at 1", Range(1e-6, 1000)
    )
    clip_norm: float = setting(
        0.05, "largest norm C of a patient's gradient in a step", Range(1e-6, 10_000)
    )
    sample_rate: float = setting(1.0, "chance q of each patient to be in a step", Range(1e-4, 1))
    patient_windows: int = setting(
        16, "most windows of a patient in a step, drawn anew each time", Range(1, 1024)
    )
    chunk: int = setting(
        256,
        "windows whose gradients are held at once, at least patient-windows; bounds memory alone",
        Range(1, 65_536),
    )
    noise_seed: int = setting(
        -1,
        "-1 = from the operating system; a seed is for simulations, no hospital takes one",
        Range(-1),
    )

    def __post_init__(self) -> None:
        check_ranges("privacy", self)
        if self.epsilon > 0 and self.noise_multiplier > 0:
            raise UsageError(
                "privacy.epsilon and privacy.noise-multiplier are both given; give the one, the "
                "other follows from it"
            )
        Range(self.patient_windows).check("privacy.chunk", self.chunk)

    @property
    def on(self) -> bool:
        """Whether a guarantee is asked for."""
        return self.epsilon > 0 or self.noise_multiplier > 0

    def steps_an_epoch(self) -> int:
        """Return the steps in which each patient is drawn once on average, whatever their number.

        The length of the training must not tell how many patients a site has.
        """
        return math.ceil(1.0 / self.sample_rate)
