"""Attack: infer numbers of patients from what leaves, for windows of the attacker's choice."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from tests.attacks.scenarios.neighbouring_tables import PRIVATE, Hospital, hospital, moved

LONG, SHORT = 60, 30
DECLARED = 25


@pytest.fixture
def config(tiny_bolt: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    return RunConfig.parse({"backbone": str(tiny_bolt), **PRIVATE})


def changed(config: RunConfig, **settings: Any) -> RunConfig:
    return RunConfig.parse({**config.flat(), **settings})


def said(reply: Message) -> dict[str, Any]:
    assert not reply.has_error(), reply.error.reason
    return {name: dict(record) for name, record in reply.content.config_records.items()}


def divisor(site: Hospital, config: RunConfig, runs: int) -> float:
    """Estimate the number that steps are divided by, from the strength of the noise alone."""
    estimates = []
    for run in range(runs):
        numbers, answer = site.train(config, f"run-{run}")
        strength = float(np.sqrt(np.mean(moved(config, answer) ** 2)))
        estimates.append(numbers["privacy.noise-multiplier"] / strength)
    return float(np.mean(estimates))


@pytest.mark.slow
@pytest.mark.parametrize("context", [24, 48])
def test_the_strength_of_the_noise_tells_the_declared_number_and_no_other(
    config: RunConfig, tmp_path: Path, context: int
) -> None:
    """Twelve of twenty patients have a window of 48 hours of context, all have one of 24.

    Before: 20 and 12 were inferred; sixty such requests gave how many stayed longer than h hours.
    """
    site = hospital(tmp_path, "site", [LONG] * 12 + [SHORT] * 8, DECLARED)
    asked = changed(
        config,
        **{
            "windows.context": context,
            "windows.min-context": context,
            "windows.stride": context,
            "privacy.epsilon": 0.05,
        },
    )
    estimate = divisor(site, asked, 6)
    assert estimate == pytest.approx(DECLARED, rel=4 / math.sqrt(2 * 6 * 320))


@pytest.mark.parametrize(
    "windows",
    [
        {},
        {"windows.context": 48, "windows.min-context": 48},
        {"windows.context": 8000, "windows.min-context": 8000},
        {"windows.stride": 59},
        {"windows.vitals": "spo2"},
    ],
)
def test_a_join_says_the_same_whatever_the_table_holds(
    config: RunConfig, tmp_path: Path, windows: dict[str, Any]
) -> None:
    """Before: `usable` was exact; twelve requests gave the longest stay."""
    hours = {"whole": [LONG] * 4 + [SHORT] * 3, "less-one": [LONG] * 3 + [SHORT] * 3, "one": [2]}
    answers = [
        said(hospital(tmp_path, name, stays, DECLARED).ask("query", changed(config, **windows)))
        for name, stays in hours.items()
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["site.site"]["usable"] is True
    assert not {"patients", "windows", "validation-windows"} & answers[0]["site.site"].keys()


def test_a_site_with_nothing_to_train_sends_noise_alone(config: RunConfig, tmp_path: Path) -> None:
    """Before: its training failed, and the error revealed that it has no such stay."""
    site = hospital(tmp_path, "site", [5, 5, 5], DECLARED)
    numbers, answer = site.train(config)
    other, _ = hospital(tmp_path, "other", [LONG] * 3, DECLARED).train(config)
    assert numbers == other
    strength = float(np.std(moved(config, answer)))
    wanted = numbers["privacy.noise-multiplier"] / DECLARED
    assert strength == pytest.approx(wanted, rel=4 / math.sqrt(2 * 320))


@pytest.mark.parametrize("kind", ["query", "train"])
def test_a_hospital_that_declares_no_number_takes_no_part(
    config: RunConfig, tmp_path: Path, kind: str
) -> None:
    """Before: the number was counted."""
    site = hospital(tmp_path, "site", [LONG] * 3, 0)
    if kind == "query":
        reply = site.ask("query", config)
        assert reply.error.reason == "refused by the site's policy: privacy"
        return
    with pytest.raises(AssertionError, match="policy: privacy"):
        site.train(config)
    assert not list(tmp_path.rglob("*.sqlite"))


def test_without_privacy_a_join_counts_as_ever(config: RunConfig, tmp_path: Path) -> None:
    site = hospital(tmp_path, "site", [LONG] * 4 + [SHORT] * 3, 0)
    counted = said(site.ask("query", changed(config, **{"privacy.epsilon": 0.0})))["site.site"]
    assert (counted["patients"], counted["windows"], counted["usable"]) == (7, 11, True)
