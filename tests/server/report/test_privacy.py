from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.config.run_config import RunConfig
from server.report.privacy import promise
from server.runs.run_reader import RunRecord


def promised(**settings: Any) -> str:
    config = RunConfig.parse({"privacy.epsilon": 1.0, **settings})
    return " ".join(promise(cast(RunRecord, SimpleNamespace(settings=config.flat()))))


def test_the_promise_says_what_is_outside_and_that_the_divisor_is_declared() -> None:
    text = promised()
    assert "adding or removing one patient" in text
    assert "the moment at which an answer comes" in text
    assert "a number of patients that the site declares; neighbouring tables have the same" in text
    assert "public" not in text


@pytest.mark.parametrize(("seed", "said"), [(-1, False), (0, True), (7, True)])
def test_noise_of_a_seed_is_said_to_protect_nobody(seed: int, said: bool) -> None:
    assert ("no protection" in promised(**{"privacy.noise-seed": seed})) is said
