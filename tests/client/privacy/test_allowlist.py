from __future__ import annotations

import pytest

from client.privacy.allowlist import PRIVATE_NUMBERS, parse_allow, release
from common.data.site_table import VITAL_NAMES
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


def test_without_privacy_everything_leaves() -> None:
    given = release(NUMBERS, "", private=False)
    assert given.numbers == NUMBERS
    assert given.sentence == ""


def test_with_privacy_only_what_is_public_leaves() -> None:
    given = release(NUMBERS, "", private=True, site="ccu")
    assert given.numbers == {"steps": 10}
    assert given.outside == ()
    assert given.sentence == (
        "ccu sends no number that depends on its patients but the noisy adapter."
    )


def test_a_number_nobody_thought_of_stays() -> None:
    assert release({"youngest": 18.0}, "*", private=True).numbers == {}


def test_what_is_allowed_leaves_and_is_named_as_outside_the_guarantee() -> None:
    given = release(NUMBERS, "loss, validation.wql", private=True, site="ccu")
    assert given.numbers == {"steps": 10, "loss": 0.5, "validation.wql": 0.1}
    assert given.outside == ("loss", "validation.wql")
    assert given.sentence == (
        "By its own choice ccu also sends loss, validation.wql, computed from its patients "
        "without noise: the guarantee does not cover these numbers."
    )


def test_an_allowed_number_that_is_not_in_the_report_is_not_named() -> None:
    given = release({"steps": 10}, "loss", private=True)
    assert given.outside == ()


def test_a_star_stands_for_all_that_begin_so() -> None:
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
        release(NUMBERS, allow, private=private)
