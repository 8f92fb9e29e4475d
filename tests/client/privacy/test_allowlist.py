from __future__ import annotations

import pytest

from client.privacy.allowlist import (
    PRIVATE_NUMBERS,
    allowed_numbers,
    parse_allow,
    unprotected_outputs,
)
from common.data.vitals import VITAL_NAMES
from common.errors import PrivacyError

NUMBERS = {
    "patients": 40,
    "windows": 900,
    "steps": 10,
    "loss": 0.5,
    "validation.wql": 0.1,
    "validation.mae.heart_rate": 4.0,
    "seconds.training": 2.0,
}


def test_without_privacy_everything_is_sent() -> None:
    assert allowed_numbers(NUMBERS, "", private=False) == NUMBERS
    assert unprotected_outputs("loss", private=False) == ()


def test_with_privacy_only_public_numbers_are_sent() -> None:
    assert allowed_numbers(NUMBERS, "", private=True) == {"steps": 10}
    assert unprotected_outputs("", private=True) == ()


def test_an_unknown_number_is_not_sent() -> None:
    assert allowed_numbers({"youngest": 18.0}, "*", private=True) == {}


def test_allowed_numbers_are_sent_and_named_as_unprotected() -> None:
    allow = "validation.wql, loss, steps"
    assert allowed_numbers(NUMBERS, allow, private=True) == {
        "steps": 10,
        "loss": 0.5,
        "validation.wql": 0.1,
    }
    assert unprotected_outputs(allow, private=True) == ("loss", "validation.wql")


def test_a_star_matches_a_prefix() -> None:
    assert parse_allow("seconds.*") == {"seconds.training", "seconds.validation"}
    assert parse_allow("validation.mae.*") == {f"validation.mae.{name}" for name in VITAL_NAMES}
    assert parse_allow("*") == set(PRIVATE_NUMBERS)
    assert parse_allow(" , steps,") == set()


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize(
    ("allow", "said"),
    [("los", "did you mean 'loss'"), ("validation.dtw.*", "matches nothing"), ("l*s", "unknown")],
)
def test_unknown_names_are_refused(allow: str, said: str, private: bool) -> None:
    with pytest.raises(PrivacyError, match=said):
        allowed_numbers(NUMBERS, allow, private=private)
