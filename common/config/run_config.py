"""Settings of a run: one frozen object, parsed from flat ``section.key = value`` pairs.

Flower carries settings as flat pairs of bool, int, float or str; so do ``-c key=value`` and
pyproject.toml. Every artefact (adapter, report, checkpoint) stores `RunConfig.flat`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic.fields import FieldInfo

from common.config.durations import times_as_steps
from common.config.error_line import fields_by_key
from common.config.field_types import LARGEST_INT, OneOf, field_range
from common.config.sections import (
    BY_NAME_RULES,
    MOST_STEPS,
    RANK_MIXING_RULES,
    AggregationConfig,
    FederationConfig,
    LoraConfig,
    PrivacyConfig,
    Text,
    TrainConfig,
    WindowConfig,
    WireConfig,
    setting,
)
from common.config.strict_model import StrictModel
from common.config.tasks import TASKS, with_task
from common.errors import UsageError
from common.names import check_name

Value = bool | int | float | str

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


def parse_settings(pairs: Sequence[str], given: Mapping[str, Any]) -> RunConfig:
    """Return the settings of a command.

    Args:
        pairs: the texts after each ``-c``, e.g. ``lora.rank=4``.
        given: settings that have options of their own; a pair must not repeat them.

    Raises:
        UsageError: a pair is not ``key=value``, a key is unknown or given twice, a value invalid.
    """
    return RunConfig.parse(split_pairs(pairs, given))


def split_pairs(pairs: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as flat pairs, with those of their task; not validated.

    Arguments and errors are those of `parse_settings`.
    """
    values: dict[str, Any] = dict(given)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-c takes KEY=VALUE, e.g. -c lora.rank=4, got {pair!r}")
        if key.strip() in values:
            raise UsageError(f"{key.strip()} is given twice; give it once")
        values[key.strip()] = value.strip()
    return with_task(values)


class RunConfig(StrictModel):
    """All settings of a run."""

    backbone: Text = setting("chronos-bolt-nano", "the frozen foundation model, by name or folder")
    data: Text = setting("", "cohort folder of a simulation; empty = the one prepared last")
    out: Text = setting("", "run folder; empty = FEDVITALS_HOME/runs/<run id>")
    resume: bool = setting(False, "continue the run in `out` after its last complete round")
    rounds: int = setting(10, "rounds of the federation", 1, 10_000)
    seed: int = setting(0, "seed of all random numbers", 0)
    task: Annotated[str, OneOf(("none", *TASKS))] = setting(
        "none",
        "settings that belong together, each of which may be given beside it; paper (as "
        "arXiv 2311.04770 and 2405.10216) = 3 h of heart rate and mean pressure from 6 h, at steps "
        "of 5 min, reported by MSE, MAPE and DTW",
    )
    step_minutes: int = setting(
        0, "step length that every site's table must have, in minutes; 0 = any", 0, 1440
    )
    statistics: bool = setting(
        False, "ask the sites for statistics of their tables in place of training"
    )
    lora: LoraConfig = Field(default_factory=LoraConfig)
    windows: WindowConfig = Field(default_factory=WindowConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    federation: FederationConfig = Field(default_factory=FederationConfig)
    aggregation: AggregationConfig = Field(default_factory=AggregationConfig)
    privacy: PrivacyConfig = Field(default_factory=PrivacyConfig)
    wire: WireConfig = Field(default_factory=WireConfig)

    @classmethod
    def parse(cls, pairs: Mapping[str, Any]) -> Self:
        """Return the settings that flat pairs give; an absent key keeps its default.

        Args:
            pairs: e.g. ``{"rounds": 5, "lora.rank": 4}``; values may be texts, and lengths of
                windows times, e.g. ``6h``. A task's settings count as given where absent.

        Raises:
            UsageError: a key is unknown, with the nearest known one, or a value is invalid.
        """
        pairs = times_as_steps(with_task(pairs))
        types = _cached_key_types()
        tables: dict[str, Any] = {}
        for key, value in pairs.items():
            check_name("setting", key, types)
            section, _, name = key.rpartition(".")
            table = tables.setdefault(section, {}) if section else tables
            table[name] = _from_text(value, types[key])
        return cls.load(tables)

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_together(self)
        return self

    @property
    def trained(self) -> str:
        """Matrices that are trained and sent: ``ab``, or ``b`` alone."""
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
        """Weighting of the sites: ``patients``, ``equal`` or ``fixed``."""
        if self.federation.fixed_weights():
            return "fixed"
        if self.federation.weights != "auto":
            return self.federation.weights
        return "equal" if self.privacy.on else "patients"

    @property
    def private_steps(self) -> int:
        """Steps of a round under differential privacy, a public number."""
        return self.train.steps or self.train.epochs * self.privacy.steps_an_epoch()

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


def _from_text(value: Any, kind: type) -> Any:
    """Return the bool or number that a text represents; validation refuses any other text."""
    if not isinstance(value, str) or kind is str:
        return value
    if kind is bool:
        return {"true": True, "false": False}.get(value.lower(), value)
    with suppress(ValueError, OverflowError):
        number: int | float = kind(value)
        if math.isfinite(number) and (kind is float or abs(number) <= LARGEST_INT):
            return number
    return value


def _check_together(config: RunConfig) -> None:
    """Refuse settings that are each valid and contradict each other."""
    rule, trained = config.rule, config.trained
    _check_task(config)
    if config.privacy.on:
        _check_private(config)
    if config.statistics and config.resume:
        raise UsageError("statistics and resume are both set; a run of statistics has no rounds")
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


def _check_task(config: RunConfig) -> None:
    if config.task in TASKS and not config.step_minutes:
        # `flwr run` merges the defaults in, so that a task's own values are not seen as absent.
        settings = times_as_steps({"task": config.task, **TASKS[config.task].settings})
        own = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        raise UsageError(
            f"task = {config.task} needs the length of a step; where a command does not resolve "
            f"the task, as `flwr run`, give its settings too: -c '{own}'"
        )


def _check_private(config: RunConfig) -> None:
    if config.private_steps > MOST_STEPS:
        raise UsageError(
            f"train.epochs = {config.train.epochs} at privacy.sample-rate = "
            f"{config.privacy.sample_rate:g} are {config.private_steps} steps a round, more than "
            f"{MOST_STEPS}; set fewer epochs, or train.steps"
        )
    if config.weighting == "patients":
        raise UsageError(
            "federation.weights = patients would reveal how many patients a site has, "
            "against privacy.*; set equal, or fixed weights as ccu=2,micu=1"
        )
    if config.lora.dropout > 0:
        raise UsageError("lora.dropout does not go with privacy.*; set lora.dropout = 0")


def key_types() -> dict[str, type]:
    """Return every flat key with the type of its value, in the order of the documentation."""
    return {key: type(value) for key, value, _ in _walk(RunConfig())}


@lru_cache(maxsize=1)
def _cached_key_types() -> Mapping[str, type]:
    """Return `key_types`, walked once: a simulated site parses the settings at every message."""
    return key_types()


def key_help() -> dict[str, str]:
    """Return every flat key with its line of help: its meaning, and its range where bounded."""
    lines = {}
    for key, _, field in _walk(RunConfig()):
        bounds = field_range(field)
        shown = bounds and not bounds.startswith("at least")
        lines[key] = f"{field.description} ({bounds})" if shown else str(field.description)
    return lines


def _walk(config: StrictModel, prefix: str = "") -> Iterator[tuple[str, Value, FieldInfo]]:
    """Give key, value and field of every setting."""
    for key, field in fields_by_key(type(config)).items():
        value = getattr(config, key.replace("-", "_"))
        if isinstance(value, StrictModel):
            yield from _walk(value, f"{key}.")
        else:
            yield prefix + key, value, field
