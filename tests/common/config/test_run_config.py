from __future__ import annotations

import re
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.run_config import (
    AggregationConfig,
    LoraConfig,
    RunConfig,
    TrainConfig,
    key_help,
    key_types,
    parse_settings,
)
from common.errors import UsageError


def test_flat_and_parse_are_inverse() -> None:
    config = RunConfig(rounds=3, lora=LoraConfig(rank=4, alpha=4.0))
    assert RunConfig.parse(config.flat()) == config


def test_values_may_come_as_text() -> None:
    text = {key: str(value) for key, value in RunConfig().flat().items()}
    assert RunConfig.parse(text) == RunConfig()


def test_every_setting_has_a_line_of_help() -> None:
    assert key_help().keys() == key_types().keys()
    assert all(len(text) >= 8 for text in key_help().values())


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"lora.rnak": 4}, "unknown setting 'lora.rnak'; did you mean 'lora.rank'?"),
        ({"round": 4}, "did you mean 'rounds'?"),
        ({"rounds": 0}, "rounds must be from 1 to 10,000, got 0"),
        ({"rounds": "many"}, "rounds must be a whole number, got 'many'"),
        ({"rounds": 2.5}, "rounds must be a whole number, got 2.5"),
        ({"rounds": True}, "rounds must be a whole number, got True"),
        ({"lora.rank": 0}, "lora.rank must be from 1 to 1,024"),
        ({"lora.alpha": "nan"}, "lora.alpha must be a number, got 'nan'"),
        ({"lora.dropout": 1.0}, "lora.dropout must be from 0 to 0.99"),
        ({"lora.scope": "all"}, "unknown lora.scope 'all'"),
        ({"train.epochs": 0}, "nothing would be trained"),
        ({"train.learning-rate": 0}, "train.learning-rate must be from 1e-12 to 10"),
        ({"train.device": "tpu"}, "unknown train.device 'tpu'"),
        ({"federation.weights": "windows"}, "unknown federation.weights"),
        ({"wire.dtype": "float8"}, "unknown wire.dtype 'float8'"),
        ({"windows.horizon": 0}, "windows.horizon must be from 1 to 1,024"),
        ({"windows.vitals": "heart_rate,spo3"}, "did you mean 'spo2'?"),
        ({"windows.vitals": " , "}, "names no vital sign"),
        ({"out": "x" * 10_001}, "out must be text of at most 10,000 characters, got 'xxx"),
        ({"rounds": "9" * 400}, "rounds must be a whole number, got '999"),
        ({"privacy.epsilon": 10**400}, "privacy.epsilon must be a number, got 1000"),
        ({"seed": 2**63}, "seed must be at most 9,223,372,036,854,775,807, got 92233"),
        ({"seed": str(2**63)}, "seed must be a whole number, got '9223"),
        ({"rounds": "2.0"}, "rounds must be a whole number, got '2.0'"),
        ({"rounds": None}, "rounds must be a whole number, got None"),
        ({"rounds": [3]}, "rounds must be a whole number, got [3]"),
        ({"train.clip": True}, "train.clip must be a number, got True"),
        ({"train.clip": "inf"}, "train.clip must be a number, got 'inf'"),
        ({"resume": 1}, "resume must be true or false, got 1"),
        ({"resume": "yes"}, "resume must be true or false, got 'yes'"),
        ({"out": 3}, 'out must be a text in "quotes", got 3'),
        ({"lora": {"rank": 4}}, "unknown setting 'lora'"),
        ({"lora.min_rank": 2}, "unknown setting 'lora.min_rank'; did you mean 'lora.min-rank'?"),
        ({"lora.min_rank": 2, "lora.min-rank": 2}, "unknown setting 'lora.min_rank'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(pairs: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        RunConfig.parse(pairs)
    assert message in str(error.value)
    assert len(str(error.value)) < 2000


def test_every_number_that_shapes_the_gradients_has_a_floor_and_a_ceiling() -> None:
    free = ("federation", "aggregation", "seed", "noise-seed", "min-rank")
    for key, kind in key_types().items():
        if kind in (int, float) and not key.startswith(free) and not key.endswith(free):
            for number in (-(10**9), 10**9, -1e300, 1e300, float("nan"), float("inf")):
                with pytest.raises(UsageError, match=key.split(".")[-1]):
                    RunConfig.parse({key: number})


@given(st.dictionaries(st.text(max_size=20), st.one_of(st.integers(), st.text(max_size=9))))
def test_nothing_but_usage_errors(pairs: dict[str, Any]) -> None:
    with suppress(UsageError):
        RunConfig.parse(pairs)


def test_the_learning_rate_falls_as_a_cosine() -> None:
    rates = [RunConfig(rounds=10).learning_rate(number) for number in range(1, 11)]
    assert rates[0] == RunConfig().train.learning_rate
    assert all(late < early for early, late in pairwise(rates))
    assert 0 < rates[-1] < 0.03 * rates[0]


def test_pairs_of_the_command_line() -> None:
    config = parse_settings(["lora.rank = 4", "windows.vitals=spo2,heart_rate"], {"rounds": 3})
    assert (config.lora.rank, config.rounds) == (4, 3)
    assert config.windows.names() == ("heart_rate", "spo2")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["lora.rank"], "-c takes KEY=VALUE"),
        (["rounds=4"], "rounds is given twice"),
        (["seed=1", "seed=2"], "seed is given twice"),
    ],
)
def test_bad_pairs_are_refused(pairs: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_settings(pairs, {"rounds": 3})


def test_a_changed_copy_names_the_key_that_is_wrong() -> None:
    with pytest.raises(UsageError, match=r"^train\.learning-rate must be from 1e-12 to 10, got 0$"):
        TrainConfig().replace(learning_rate=0)
    with pytest.raises(UsageError, match=r"^lora\.min-rank must be at least 0, got -1$"):
        LoraConfig().replace(min_rank=-1)
    with pytest.raises(UsageError, match=r"set lora\.train = b"):
        RunConfig().replace(aggregation=AggregationConfig(rule="ffa"))


def test_what_is_left_to_itself_is_resolved() -> None:
    plain = RunConfig()
    assert (plain.trained, plain.rule, plain.weighting) == ("ab", "fedavg", "patients")
    private = RunConfig.parse({"privacy.epsilon": 8})
    assert (private.trained, private.rule, private.weighting) == ("b", "ffa", "equal")
    both = RunConfig.parse({"privacy.epsilon": 8, "lora.train": "ab"})
    assert (both.trained, both.rule) == ("ab", "fedavg")
    fixed = RunConfig.parse({"federation.weights": "ccu=2,micu=0.5"})
    assert fixed.weighting == "fixed"
    assert fixed.federation.fixed_weights() == {"ccu": 2.0, "micu": 0.5}


def test_the_steps_of_a_private_round_do_not_tell_how_many_patients_there_are() -> None:
    settings = {"privacy.epsilon": 8, "privacy.sample-rate": 0.15, "train.epochs": 2}
    assert RunConfig.parse(settings).private_steps == 14
    assert RunConfig.parse(settings | {"train.steps": 5}).private_steps == 5


def test_a_site_of_another_rank_keeps_the_scaling() -> None:
    lora = RunConfig.parse(
        {"lora.rank": 8, "lora.min-rank": 2, "aggregation.rule": "svd"}
    ).lora.at_rank(2)
    assert (lora.rank, lora.alpha) == (2, 4.0)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ({"aggregation.rule": "ffa"}, "needs a shared A; set lora.train = b"),
        ({"aggregation.rule": "svd", "lora.train": "b"}, "changes A, which lora.train = b keeps"),
        ({"aggregation.rule": "fedavg", "privacy.epsilon": 1}, "set aggregation.rule = ffa"),
        ({"lora.min-rank": 2}, "aggregation.rule = fedavg cannot average; take one of: svd, flora"),
        ({"lora.min-rank": 9}, "lora.min-rank must be from 0 to 8"),
        ({"aggregation.rule": "svd", "wire.dtype": "int8"}, "set wire.dtype = float16"),
        ({"aggregation.rule": "svd", "aggregation.optimizer": "fedadam"}, "by name"),
        ({"privacy.epsilon": 1, "federation.weights": "patients"}, "how many patients a site has"),
        ({"privacy.epsilon": 1, "lora.dropout": 0.1}, "set lora.dropout = 0"),
        ({"privacy.epsilon": 1, "privacy.noise-multiplier": 1}, "both given"),
        ({"privacy.delta": 0}, "privacy.delta must be from 1e-12 to 0.01"),
        ({"privacy.sample-rate": 0}, "privacy.sample-rate must be from 0.0001 to 1"),
        ({"privacy.epsilon": 1e-4}, "privacy.epsilon must be 0, or from 0.001 to 100"),
        ({"privacy.noise-multiplier": -9.9e-123}, "must be 0, or from 0.1 to 1,000, got -9.9e-123"),
        ({"privacy.noise-multiplier": 0.01}, "must be 0, or from 0.1 to 1,000"),
        ({"privacy.clip-norm": 1e-30}, "privacy.clip-norm must be from 1e-06 to 10,000, got 1e-30"),
        ({"privacy.learning-rate": 1e9}, "privacy.learning-rate must be from 1e-06 to 1,000"),
        ({"privacy.patient-windows": 10**6}, "privacy.patient-windows must be from 1 to 1,024"),
        ({"lora.alpha": 1e-22}, "lora.alpha / lora.rank must be from 0.001 to 1000"),
        ({"lora.alpha": 1e6}, "lora.alpha / lora.rank must be from 0.001 to 1000"),
        ({"lora.rank": 123456789}, "lora.rank must be from 1 to 1,024"),
        ({"windows.context": 10**9}, "windows.context must be from 1 to 8,192"),
        (
            {"privacy.epsilon": 1, "privacy.sample-rate": 1e-4, "train.epochs": 11},
            "110000 steps a round, more than 100000; set fewer epochs",
        ),
        ({"privacy.chunk": 2}, "privacy.chunk must be at least 16"),
        ({"federation.fraction": 0}, "federation.fraction must be from 1e-06 to 1"),
        ({"federation.weights": "ccu=2,ccu=1"}, "takes SITE=WEIGHT"),
        ({"federation.weights": "ccu=0"}, "weights above 0, got 'ccu=0'"),
        ({"aggregation.trim": 0.5}, "aggregation.trim must be from 0 to 0.49"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(pairs: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=re.escape(reason)):
        RunConfig.parse(pairs)
