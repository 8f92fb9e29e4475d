"""Attacks on the reason that a coordinator is told: reading a site's limits and its patients."""

from __future__ import annotations

import re

import pytest

from client.egress.reply_builder import ERROR_REASONS
from client.policy.refusal import REFUSED, PublicReason, RefusedError, public_reason
from tests.client.egress.gated_site import POLICY, GatedSite, Make

TEXTS = {
    ERROR_REASONS[REFUSED],
    *(f"{ERROR_REASONS[REFUSED]}: {reason}" for reason in PublicReason if reason),
}


def told(site: GatedSite, kind: str = "train") -> str:
    """Return what the coordinator reads; empty if the app was started or nothing was sent."""
    answer = site.gate.admit(site.request(site.ask(kind)))
    message = None if answer is None else answer.message
    return str(message.error.reason) if message is not None and message.has_error() else ""


def test_a_ceiling_is_not_in_the_reason(make: Make) -> None:
    """A coordinator asks with one epsilon after another, and compares the reasons.

    Every refusal says the same, far above the ceiling or just above it, for one run or for all.
    """
    site = make(policy=POLICY.replace("max-epsilon = 8.0", "max-epsilon = 1.0"))
    found = set()
    for noise in (0.5, 3.0, 5.0):
        site.use(**{"privacy.noise-multiplier": noise})
        found.add(told(site))
    site.change_policy("max-epsilon = 1.0", "max-epsilon = 8.0")
    site.change_policy("budget-epsilon = 12.0", "budget-epsilon = 0.5")
    found.add(told(site))
    site.change_policy('"privacy.noise-multiplier" = { min = 0, max = 100 }\n', "")
    found.add(told(site))
    assert found == {"refused by the site's policy: privacy"}
    assert not any(re.search(r"[0-9]", text) for text in TEXTS)


def test_bisection_ends_with_the_days_errors(make: Make) -> None:
    """A coordinator bisects a ceiling by requests to join, which cost no budget."""
    site = make(
        policy=POLICY.replace("max-epsilon = 8.0", "max-epsilon = 0.1").replace(
            "errors-per-day = 30", "errors-per-day = 2"
        )
    )
    assert [told(site, "query") != "" for _ in range(4)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max-rank = 2", "max-rank = 1"),
        ("max-epsilon = 8.0", "max-epsilon = 0.1"),
        ("budget-epsilon = 12.0", "budget-epsilon = 0.1"),
        ('"train.steps" = { min = 0, max = 10 }', '"train.steps" = 1'),
    ],
)
def test_the_reason_does_not_depend_on_the_number_of_patients(
    make: Make, old: str, new: str
) -> None:
    """A coordinator sends a run that is refused anyway, to learn whether the site is too small."""
    site = make(policy=POLICY.replace(old, new))
    first = told(site)
    object.__setattr__(site.site, "patients", 4)
    assert told(site) == first != ""


def test_too_few_patients_share_their_reason_with_other_causes(make: Make) -> None:
    site = make(patients=4)
    small = told(site)
    other = make(policy=POLICY.replace("rounds-per-day = 3", "rounds-per-day = 0"))
    assert small == told(other) == ERROR_REASONS[REFUSED]


@pytest.mark.parametrize("problem", [ValueError("Meier"), RefusedError("patients", "4"), OSError()])
def test_a_fault_and_a_small_site_are_told_alike(problem: Exception) -> None:
    assert public_reason(problem) is PublicReason.NONE
