from __future__ import annotations

import pytest

from common.errors import UsageError
from common.names import check_name, check_site_name, is_site_name, natural_order, printable


def test_a_known_name_passes() -> None:
    assert check_name("metric", "wql", ("mae", "wql")) == "wql"


def test_the_nearest_name_and_all_that_exist_are_listed() -> None:
    with pytest.raises(UsageError) as error:
        check_name("vital", "Heart_Rat", ("heart_rate", "spo2"))
    assert str(error.value) == (
        "unknown vital 'Heart_Rat'; did you mean 'heart_rate'? known are: heart_rate, spo2"
    )


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    with pytest.raises(UsageError, match=r"unknown vital 'xyz'; known are: heart_rate"):
        check_name("vital", "xyz", ("heart_rate",))


@pytest.mark.parametrize("name", ["a", "st-mary", "icu_2.east", "A" * 64])
def test_a_site_s_name_passes(name: str) -> None:
    assert check_site_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "../etc", "a b", "a\n", "\u0430", "A" * 65])
def test_another_name_is_refused(name: str) -> None:
    assert not is_site_name(name)
    with pytest.raises(UsageError, match="a site's name has 1 to 64 letters"):
        check_site_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fine\n[INFO] forged\x1b[2J", "fine?[INFO] forged?[2J"),
        ("right to left \u202e", "right to left ?"),
        ("line \u2028 separator", "line ? separator"),
        ("Zürich", "Zürich"),
        (ValueError("an\terror"), "an?error"),
    ],
)
def test_foreign_text_becomes_one_printable_line(text: object, shown: str) -> None:
    assert printable(text) == shown


def test_foreign_text_is_cut() -> None:
    assert printable("x" * 10_000) == "x" * 200
    assert printable("x" * 10_000, 7) == "x" * 7


def test_names_with_numbers_are_in_the_order_of_the_numbers() -> None:
    names = ["hospital-73", "micu", "hospital-9", "hospital-10b", "9", "hospital-09", "Micu", "²"]
    ordered = sorted(names, key=natural_order)
    assert ordered[:3] == ["9", "Micu", "hospital-09"]
    assert ordered[3:] == ["hospital-9", "hospital-10b", "hospital-73", "micu", "²"]
