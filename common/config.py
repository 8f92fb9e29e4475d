"""The run's settings: one typed, frozen object, parsed once from flat `section.key = value` pairs.

Flower carries settings as flat pairs of bool, int, float or str; so do `-c key=value` and
pyproject.toml. `RunConfig.parse` turns them into one object, refuses what it does not know, and
names the nearest known key. Every artefact (adapter, report, checkpoint) carries `flat()`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_type_hints

from common.errors import UsageError
from common.names import check_name
from common.vitals import VITAL_NAMES
from common.windows import WindowSettings

Value = bool | int | float | str

LORA_SCOPES = ("attention", "attention+feed-forward")
WEIGHTINGS = ("patients", "equal")
SCHEDULES = ("cosine", "constant")
DEVICES = ("auto", "cpu", "cuda", "mps")
WIRE_DTYPES = ("float32", "float16")


def _key(default: Any, text: str) -> Any:
    """A setting: its default and the line of help that the reference of keys shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class LoraConfig:
    """`lora.*`: the adapter (Hu et al., arXiv 2106.09685)."""

    rank: int = _key(8, "rank r of each pair of matrices")
    alpha: float = _key(16.0, "scale: an update is (alpha / rank) B A")
    dropout: float = _key(0.0, "dropout on the adapter's input while training, 0 to below 1")
    scope: str = _key("attention", "which projections: attention, or attention+feed-forward")

    def __post_init__(self) -> None:
        _at_least("lora.rank", self.rank, 1)
        _positive("lora.alpha", self.alpha)
        _within("lora.dropout", self.dropout, 0.0, 0.99)
        check_name("lora.scope", self.scope, LORA_SCOPES)


@dataclass(frozen=True)
class WindowConfig:
    """`windows.*`: how stays become windows."""

    context: int = _key(48, "steps that the model sees")
    horizon: int = _key(6, "steps that it forecasts")
    stride: int = _key(6, "steps between two forecast origins of a stay, in training")
    min_context: int = _key(8, "least observed values in a context")
    vitals: str = _key("all", "vital signs, separated by commas, or all")

    def __post_init__(self) -> None:
        self.settings()
        if not self.names():
            raise UsageError("windows.vitals names no vital sign; name some, or all")
        for name in self.names():
            check_name("vital in windows.vitals", name, VITAL_NAMES)

    def settings(self) -> WindowSettings:
        """Return the settings in the form that `common.windows` takes."""
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

    epochs: int = _key(1, "passes over the site's windows a round; ignored where steps > 0")
    steps: int = _key(0, "optimiser steps a round; 0 = by epochs")
    batch: int = _key(64, "windows a step")
    learning_rate: float = _key(3e-3, "of AdamW, in round 1")
    schedule: str = _key("cosine", "of the learning rate over the rounds: cosine or constant")
    weight_decay: float = _key(0.0, "of AdamW")
    clip: float = _key(1.0, "largest norm of a step's gradient; 0 = no clipping")
    proximal: float = _key(0.0, "FedProx's mu (arXiv 1812.06127): pull towards the round's adapter")
    device: str = _key("auto", "auto (cuda, mps or cpu, as there is), cpu, cuda or mps")
    threads: int = _key(1, "CPU threads; 1 makes bytes equal on every machine, 0 = torch's choice")

    def __post_init__(self) -> None:
        _at_least("train.epochs", self.epochs, 0)
        _at_least("train.steps", self.steps, 0)
        if self.epochs == 0 and self.steps == 0:
            raise UsageError("train.epochs and train.steps are both 0; nothing would be trained")
        _at_least("train.batch", self.batch, 1)
        _positive("train.learning-rate", self.learning_rate)
        check_name("train.schedule", self.schedule, SCHEDULES)
        check_name("train.device", self.device, DEVICES)
        for name in ("weight_decay", "clip", "proximal", "threads"):
            _at_least(f"train.{_dashed(name)}", getattr(self, name), 0)


@dataclass(frozen=True)
class FederationConfig:
    """`federation.*`: how the server conducts the rounds."""

    min_sites: int = _key(2, "least sites whose replies make a round; fewer end the run")
    weights: str = _key("patients", "weight of a site's adapter: patients, or equal")
    wait_s: float = _key(300.0, "longest wait for min-sites nodes to be there, in seconds")
    round_timeout_s: float = _key(3600.0, "longest wait for a round's replies, in seconds")
    patience: int = _key(0, "rounds without a better validation WQL before stopping; 0 = never")

    def __post_init__(self) -> None:
        _at_least("federation.min-sites", self.min_sites, 1)
        check_name("federation.weights", self.weights, WEIGHTINGS)
        _positive("federation.wait-s", self.wait_s)
        _positive("federation.round-timeout-s", self.round_timeout_s)
        _at_least("federation.patience", self.patience, 0)


@dataclass(frozen=True)
class WireConfig:
    """`wire.*`: how an adapter travels."""

    dtype: Literal["float32", "float16"] = _key("float32", "float32, or float16: half the bytes")

    def __post_init__(self) -> None:
        check_name("wire.dtype", self.dtype, WIRE_DTYPES)


@dataclass(frozen=True)
class RunConfig:
    """Everything that shapes a run."""

    backbone: str = _key("chronos-bolt-nano", "the frozen foundation model, by name or folder")
    data: str = _key("", "cohort folder of a simulation; empty = the one prepared last")
    out: str = _key("", "run folder; empty = FEDVITALS_HOME/runs/<run id>")
    rounds: int = _key(10, "rounds of the federation")
    seed: int = _key(0, "seed of everything random")
    lora: LoraConfig = field(default_factory=LoraConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    wire: WireConfig = field(default_factory=WireConfig)

    def __post_init__(self) -> None:
        _at_least("rounds", self.rounds, 1)
        _at_least("seed", self.seed, 0)

    @classmethod
    def parse(cls, pairs: Mapping[str, Any]) -> RunConfig:
        """Build the settings from flat pairs; what is absent keeps its default.

        Args:
            pairs: e.g. ``{"rounds": 5, "lora.rank": 4}``; values may be strings.

        Returns:
            The settings.

        Raises:
            UsageError: an unknown key, with the nearest known one, or a value that cannot be.
        """
        types = key_types()
        sections: dict[str, dict[str, Value]] = {}
        for key, value in pairs.items():
            check_name("setting", key, types)
            section, _, name = key.rpartition(".")
            sections.setdefault(section, {})[_underscored(name)] = _convert(key, value, types[key])
        top: dict[str, Any] = {**sections.pop("", {})}
        hints = get_type_hints(cls)
        for section, values in sections.items():
            top[section] = hints[section](**values)
        return cls(**top)

    def flat(self) -> dict[str, Value]:
        """Return all settings as flat pairs, the inverse of `parse`."""
        return {key: value for key, value, _ in _walk(self)}

    def learning_rate(self, round_number: int) -> float:
        """Return the learning rate of a round, 1 to `rounds`.

        Cosine falls from the full rate in round 1 towards zero after the last: the smaller late
        steps bring the sites' matrices together, which makes averaging A and B apart harmless.
        """
        rate = self.train.learning_rate
        if self.train.schedule == "constant":
            return rate
        return rate * 0.5 * (1.0 + math.cos(math.pi * (round_number - 1) / self.rounds))


def key_types() -> dict[str, type]:
    """Return every flat key with the type of its value, in the order of the documentation."""
    return {key: type(value) for key, value in RunConfig().flat().items()}


def key_help() -> dict[str, str]:
    """Return every flat key with its line of help."""
    return {key: text for key, _, text in _walk(RunConfig())}


def _walk(config: RunConfig) -> Iterator[tuple[str, Value, str]]:
    """Give key, value and line of help of every setting."""
    for item in fields(config):
        value: Any = getattr(config, item.name)
        if is_dataclass(value):
            for inner in fields(value):
                key = f"{item.name}.{_dashed(inner.name)}"
                yield key, getattr(value, inner.name), inner.metadata["help"]
        else:
            yield _dashed(item.name), value, item.metadata["help"]


def _convert(key: str, given: Any, kind: type) -> Value:
    """Read a value that may come as text; an int may stand for a float, nothing else mixes."""
    value: Any = given
    converter: Any = kind
    try:
        if kind is bool and isinstance(given, str):
            value = {"true": True, "false": False}[given.lower()]
        elif kind in (int, float) and isinstance(given, str | int) and not isinstance(given, bool):
            value = converter(given)
    except (KeyError, ValueError):
        raise UsageError(f"{key} must be {_type_name(kind)}, got {given!r}") from None
    fits = type(value) is kind  # a bool is an int to isinstance
    if not fits or (kind is float and not math.isfinite(value)):
        raise UsageError(f"{key} must be {_type_name(kind)}, got {given!r}")
    checked: Value = value
    return checked


def _type_name(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]


def _at_least(key: str, value: float, least: float) -> None:
    if value < least:
        raise UsageError(f"{key} must be at least {least:g}, got {value:g}")


def _positive(key: str, value: float) -> None:
    if value <= 0:
        raise UsageError(f"{key} must be above 0, got {value:g}")


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{key} must be from {low:g} to {high:g}, got {value:g}")


def _dashed(name: str) -> str:
    return name.replace("_", "-")


def _underscored(name: str) -> str:
    return name.replace("-", "_")
