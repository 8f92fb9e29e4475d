"""The run's settings: one typed, frozen object, parsed once from flat `section.key = value` pairs.

Flower carries settings as flat pairs of bool, int, float or str; so do `-c key=value` and
pyproject.toml. `RunConfig.parse` turns them into one object, refuses what it does not know, and
names the nearest known key. Every artefact (adapter, report, checkpoint) carries `flat()`.

Settings from the command line: `-c key=value` into one `RunConfig`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from common.config.ranges import Range, check_ranges, dashed, setting
from common.config.sections import (
    BY_NAME_RULES,
    MOST_STEPS,
    RANK_MIXING_RULES,
    AggregationConfig,
    FederationConfig,
    LoraConfig,
    PrivacyConfig,
    TrainConfig,
    WindowConfig,
    WireConfig,
)
from common.errors import UsageError
from common.names import check_name


def parse_settings(pairs: Sequence[str], given: Mapping[str, Any]) -> RunConfig:
    """Return the settings of a command.

    Args:
        pairs: what stood behind each ``-c``, e.g. ``lora.rank=4``.
        given: settings that have options of their own; a pair must not contradict them.

    Raises:
        UsageError: where a pair is not ``key=value``, a key is unknown or given twice.
    """
    return RunConfig.parse(split_pairs(pairs, given))


def split_pairs(pairs: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as flat pairs, not yet checked; arguments and errors as above."""
    values: dict[str, Any] = dict(given)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-c takes KEY=VALUE, e.g. -c lora.rank=4, got {pair!r}")
        if key.strip() in values:
            raise UsageError(f"{key.strip()} is given twice; give it once")
        values[key.strip()] = value.strip()
    return values


Value = bool | int | float | str

MOST_CHARACTERS = 10_000
"""Of a text: settings come from whoever starts a run, and are kept with all that it makes."""
MOST_WHOLE = 2**63 - 1
"""What Flower's settings carry; a longer number is no number of anything, and no float either."""

__all__ = [
    "AggregationConfig",
    "FederationConfig",
    "LoraConfig",
    "PrivacyConfig",
    "RunConfig",
    "TrainConfig",
    "Value",
    "WindowConfig",
    "WireConfig",
    "key_help",
    "key_types",
]


@dataclass(frozen=True)
class RunConfig:
    """Everything that shapes a run."""

    backbone: str = setting("chronos-bolt-nano", "the frozen foundation model, by name or folder")
    data: str = setting("", "cohort folder of a simulation; empty = the one prepared last")
    out: str = setting("", "run folder; empty = FEDVITALS_HOME/runs/<run id>")
    resume: bool = setting(False, "go on with the run that `out` holds, from its last whole round")
    rounds: int = setting(10, "rounds of the federation", Range(1, 10_000))
    seed: int = setting(0, "seed of everything random", Range(0))
    lora: LoraConfig = field(default_factory=LoraConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    wire: WireConfig = field(default_factory=WireConfig)

    def __post_init__(self) -> None:
        check_ranges("", self)
        _check_together(self)

    @property
    def trained(self) -> str:
        """Which matrices are trained and travel: ``ab``, or ``b`` alone."""
        if self.lora.train != "auto":
            return self.lora.train
        return "b" if self.privacy.on else "ab"

    @property
    def rule(self) -> str:
        """The aggregation rule, one of `common.config.sections.RULES`."""
        if self.aggregation.rule != "auto":
            return self.aggregation.rule
        return "ffa" if self.trained == "b" else "fedavg"

    @property
    def weighting(self) -> str:
        """How sites are weighed: ``patients``, ``equal`` or ``fixed``."""
        if self.federation.fixed_weights():
            return "fixed"
        if self.federation.weights != "auto":
            return self.federation.weights
        return "equal" if self.privacy.on else "patients"

    @property
    def private_steps(self) -> int:
        """Steps of a round under differential privacy: known to everyone before it begins."""
        return self.train.steps or self.train.epochs * self.privacy.steps_an_epoch()

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
        rate = self.privacy.learning_rate if self.privacy.on else self.train.learning_rate
        if self.train.schedule == "constant":
            return rate
        return rate * 0.5 * (1.0 + math.cos(math.pi * (round_number - 1) / self.rounds))


def _check_together(config: RunConfig) -> None:
    """Refuse settings that are good each by itself and wrong together."""
    rule, trained = config.rule, config.trained
    if rule == "ffa" and trained == "ab":
        raise UsageError("aggregation.rule = ffa needs a shared A; set lora.train = b")
    if trained == "b" and rule in ("fedavg", "svd", "flora", "fedex"):
        raise UsageError(
            f"aggregation.rule = {rule} changes A, which lora.train = b keeps as it is; "
            "set aggregation.rule = ffa, which is exact"
        )
    if config.lora.min_rank and rule not in RANK_MIXING_RULES:
        raise UsageError(
            f"lora.min-rank lets sites choose their rank, which aggregation.rule = {rule} cannot "
            f"average; take one of: {', '.join(RANK_MIXING_RULES)}"
        )
    if config.wire.dtype == "int8" and rule not in (*BY_NAME_RULES, "fedex"):
        raise UsageError(
            f"wire.dtype = int8 keeps each site's rounding error by matrix, and aggregation.rule = "
            f"{rule} makes other matrices every round; set wire.dtype = float16"
        )
    if not config.privacy.on:
        return
    if config.private_steps > MOST_STEPS:
        raise UsageError(
            f"train.epochs = {config.train.epochs} at privacy.sample-rate = "
            f"{config.privacy.sample_rate:g} are {config.private_steps} steps a round, more than "
            f"{MOST_STEPS}; set fewer epochs, or train.steps"
        )
    if config.weighting == "patients":
        raise UsageError(
            "federation.weights = patients would tell how many patients a site has, which "
            "privacy.* keeps; set equal, or fixed weights as ccu=2,micu=1"
        )
    if config.lora.dropout > 0:
        raise UsageError("lora.dropout does not go with privacy.*; set lora.dropout = 0")


def key_types() -> dict[str, type]:
    """Return every flat key with the type of its value, in the order of the documentation."""
    return {key: type(value) for key, value in RunConfig().flat().items()}


def key_ranges() -> dict[str, Range]:
    """Return the range of every flat key that has one."""
    found: dict[str, Range] = {}
    for item in fields(RunConfig()):
        value = getattr(RunConfig(), item.name)
        inside = (
            [(f"{item.name}.", inner) for inner in fields(value)] if is_dataclass(value) else []
        )
        for prefix, one in inside or [("", item)]:
            if one.metadata.get("range") is not None:
                found[prefix + dashed(one.name)] = one.metadata["range"]
    return found


def key_help() -> dict[str, str]:
    """Return every flat key with its line of help."""
    return {key: text for key, _, text in _walk(RunConfig())}


def _walk(config: RunConfig) -> Iterator[tuple[str, Value, str]]:
    """Give key, value and line of help of every setting."""
    for item in fields(config):
        value: Any = getattr(config, item.name)
        if is_dataclass(value):
            for inner in fields(value):
                key = f"{item.name}.{dashed(inner.name)}"
                yield key, getattr(value, inner.name), inner.metadata["help"]
        else:
            yield dashed(item.name), value, item.metadata["help"]


def _convert(key: str, given: Any, kind: type) -> Value:
    """Read a value that may come as text; an int may stand for a float, nothing else mixes."""
    value: Any = given
    converter: Any = kind
    try:
        if kind is bool and isinstance(given, str):
            value = {"true": True, "false": False}[given.lower()]
        elif kind in (int, float) and isinstance(given, str | int) and not isinstance(given, bool):
            value = converter(given)
    except (KeyError, OverflowError, ValueError):
        raise UsageError(f"{key} must be {_type_name(kind)}, got {given!r:.200}") from None
    fits = type(value) is kind  # a bool is an int to isinstance
    if not fits or not _bounded(value):
        raise UsageError(f"{key} must be {_type_name(kind)}, got {given!r:.200}")
    checked: Value = value
    return checked


def _bounded(value: Value) -> bool:
    if isinstance(value, str):
        return len(value) <= MOST_CHARACTERS
    return math.isfinite(value) if isinstance(value, float) else abs(value) <= MOST_WHOLE


def _type_name(kind: type) -> str:
    text = f"text of at most {MOST_CHARACTERS:,} characters"
    return {bool: "true or false", int: "a whole number", float: "a number", str: text}[kind]


def _underscored(name: str) -> str:
    return name.replace("-", "_")
