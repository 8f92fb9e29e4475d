from __future__ import annotations

from typing import Any

import pytest

from client.site_split.split_findings import split_findings

MANY = {"train": 70, "validation": 20, "test": 30}


def facts(**changed: Any) -> dict[str, Any]:
    about = {"rule": "…", "by": "time", "years": [2019, 2022], "patients_on_both_sides": 0}
    return {**about, **changed}


@pytest.mark.parametrize(
    ("about", "patients", "codes"),
    [
        (None, {"train": 1, "validation": 0, "test": 0}, []),
        (facts(), MANY, ["split-in-time"]),
        (facts(years=[2101, 2190]), MANY, ["split-dates-shifted"]),
        (facts(years=[1950, 2020]), MANY, ["split-dates-shifted"]),
        (facts(by="column"), MANY, []),
        (facts(by="column", patients_on_both_sides=3), MANY, ["split-both-sides"]),
        (facts(by="column"), {**MANY, "test": 5}, ["split-small-part"]),
    ],
)
def test_each_doubt_is_a_finding(
    about: dict[str, Any] | None, patients: dict[str, int], codes: list[str]
) -> None:
    assert [finding.code for finding in split_findings(about, patients)] == codes
