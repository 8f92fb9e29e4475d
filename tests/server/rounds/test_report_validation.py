from __future__ import annotations

from typing import Any

import pytest

from common.config.run_config import PrivacyConfig
from server.rounds.report_validation import ReplyRefusedError, validate_report
from server.rounds.site_registry import Member

GOOD: dict[str, Any] = {
    "patients": 12,
    "windows": 100,
    "steps": 5,
    "loss": 0.5,
    "validation.wql": 0.1,
    "seconds.training": 1.5,
}
MEMBER = Member("micu", 1, 12, 100, "mimic3", "all", 60, 8)
OPEN = PrivacyConfig()
PRIVATE = PrivacyConfig(epsilon=8.0)
GUARANTEE: dict[str, Any] = {
    "steps": 10,
    "privacy.epsilon": 7.9,
    "privacy.epsilon-rdp": 8.6,
    "privacy.delta": PRIVATE.delta,
    "privacy.noise-multiplier": 1.1,
    "privacy.sample-rate": PRIVATE.sample_rate,
    "privacy.clip-norm": PRIVATE.clip_norm,
    "privacy.steps": 100,
}


def test_a_good_report_is_read() -> None:
    report = validate_report(GOOD, MEMBER, OPEN)
    assert (report.patients, report.windows, report.steps, report.loss) == (12, 100, 5, 0.5)
    assert report.validation == {"wql": 0.1}
    assert report.seconds == {"training": 1.5}
    assert "privacy" not in report.record()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"patients": 0}, "it reports 0 patients, 12 when it joined"),
        ({"patients": 10**9}, "it reports 1000000000 patients, 12 when it joined"),
        ({"validation.name": 1.0}, "unknown metric validation.name"),
        ({"seconds.x": 1.0}, "unknown metric seconds.x"),
        ({"john.doe": 1.0}, "unknown metric john.doe"),
        ({"age": 60}, "unknown metric age"),
        ({"loss": float("nan")}, "the value of loss is not a finite number"),
        ({"validation.wql": float("inf")}, "validation.wql is not a finite number"),
        ({"validation.wql": [0.1]}, "validation.wql is not a finite number"),
    ],
)
def test_an_impossible_report_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReplyRefusedError, match=reason):
        validate_report(GOOD | change, MEMBER, OPEN)


@pytest.mark.parametrize("name", ["patients", "windows", "steps", "loss"])
def test_an_incomplete_report_is_refused(name: str) -> None:
    with pytest.raises(ReplyRefusedError, match=f"lacks {name}"):
        validate_report({key: value for key, value in GOOD.items() if key != name}, MEMBER, OPEN)


def test_a_private_site_reports_its_guarantee_and_nothing_else_is_required() -> None:
    report = validate_report(GUARANTEE, MEMBER, PRIVATE)
    assert (report.steps, report.patients, report.loss, report.validation) == (10, None, None, {})
    assert report.record()["privacy"]["epsilon"] == 7.9
    assert "patients" not in report.record()
    allowed = validate_report(GUARANTEE | {"validation.wql": 0.1}, MEMBER, PRIVATE)
    assert allowed.validation == {"wql": 0.1}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"privacy.epsilon": 9.0}, "its epsilon is 9, the run promises 8"),
        ({"privacy.delta": 1e-3}, "privacy.delta is 0.001, the run's 1e-05"),
        ({"privacy.sample-rate": 0.5}, "privacy.sample-rate is 0.5"),
        ({"privacy.clip-norm": 5.0}, "privacy.clip-norm is 5"),
        ({"privacy.sigma": 1.0}, "unknown metric privacy.sigma"),
    ],
)
def test_a_guarantee_weaker_than_the_runs_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ReplyRefusedError, match=reason):
        validate_report(GUARANTEE | change, MEMBER, PRIVATE)
    absent = {key: value for key, value in GUARANTEE.items() if key != "privacy.steps"}
    with pytest.raises(ReplyRefusedError, match="lacks the site's privacy guarantee"):
        validate_report(absent, MEMBER, PRIVATE)


def test_noise_below_the_runs_multiplier_is_refused() -> None:
    with pytest.raises(ReplyRefusedError, match=r"its noise multiplier is 1\.1, the run's 2"):
        validate_report(GUARANTEE, MEMBER, PrivacyConfig(noise_multiplier=2.0))
