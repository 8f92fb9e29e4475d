"""Attacks by a run's settings, which the coordinator chooses and the app follows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy.refusal import REFUSED
from client.policy.run_settings import Accepted, is_guarded, refused_setting, unnamed_settings
from common.config.run_config import RunConfig, key_types
from tests.client.egress.gated_site import POLICY, GatedSite, Make

GUARDED = [key for key in key_types() if is_guarded(key)]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("windows.context", 11),
        ("windows.vitals", "heart_rate"),
        ("lora.alpha", 0.5),
        ("lora.rank", 1),
        ("train.steps", 11),
        ("privacy.clip-norm", 20.0),
        ("privacy.patient-windows", 100),
        ("privacy.sample-rate", 0.05),
        ("privacy.epsilon", 9.0),
        ("backbone", "amazon/chronos-bolt-small"),
    ],
)
def test_a_setting_that_the_policy_does_not_accept_starts_no_app(
    make: Make, key: str, value: Any
) -> None:
    """A coordinator overrides a setting that changes what is computed from the patients.

    Before: every value reached the app, and the audit log did not hold it.
    """
    site = make()
    site.use(**{key: value, **({"privacy.noise-multiplier": 0.0} if "epsilon" in key else {})})
    for kind in ("query", "train", "evaluate") if key != "backbone" else ("query",):
        assert _refusal(site, kind) == REFUSED
        assert site.last["reason"] == "settings"
        assert site.last["detail"].startswith(f"{key} = ")
        assert site.last["settings"]["changed"][key] == value
        assert len(site.last["settings"]["sha256"]) == 64


@pytest.mark.parametrize("key", GUARDED)
def test_a_guarded_setting_that_the_policy_does_not_name_is_refused(make: Make, key: str) -> None:
    """A policy does not name a setting, since the setting is newer than the policy.

    Before: what no policy named was accepted.
    """
    name = f'"{key}"' if "." in key else key
    lines = [line for line in POLICY.splitlines() if not line.startswith(f"{name} = ")]
    site = make(policy="\n".join(lines))
    assert _refusal(site, "query") == REFUSED
    assert site.last["detail"].endswith("which the policy's [settings] does not name")


def test_what_is_accepted_is_in_the_audit_log(make: Make) -> None:
    """Somebody asks afterwards with which settings the patients' windows were cut.

    Before: the audit log had no settings.
    """
    site = make()
    assert site.admitted(site.ask("train")) is None
    settings = site.last["settings"]
    assert settings["changed"]["lora.rank"] == 2
    assert settings["changed"]["privacy.noise-multiplier"] == 3.0
    assert "lora.alpha" not in settings["changed"], "as usual"


@given(least=st.floats(-1e6, 1e6), width=st.floats(0, 1e6), value=st.floats(allow_nan=True))
def test_a_range_accepts_what_lies_in_it_and_nothing_else(
    least: float, width: float, value: float
) -> None:
    accepted = Accepted(least=least, most=least + width)
    assert (value in accepted) == (least <= value <= least + width)


def test_every_setting_that_shapes_the_training_is_guarded() -> None:
    free = {key for key in key_types() if not is_guarded(key)}
    assert {key.partition(".")[0] for key in free} == {
        *("aggregation", "data", "federation", "out", "resume", "rounds", "seed", "statistics"),
        # Names of settings that are guarded, and a length that is compared with the site's own.
        *("task", "step-minutes"),
    }
    assert unnamed_settings({}) == GUARDED
    assert refused_setting(RunConfig().flat(), {}).startswith("backbone = ")


def _refusal(site: GatedSite, kind: str) -> int:
    refusal = site.admitted(site.ask(kind))
    assert refusal is not None
    return int(refusal.error.code)
