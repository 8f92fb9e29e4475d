from __future__ import annotations

import math

import pandas as pd
import pytest

from client.ingest.stays import selection

AGES = [
    *((text, 90.0) for text in ("> 89", ">89", ">= 90", "≥ 90", "90+", "90 years")),
    ("67.5", 67.5),
    (" 45 ", 45.0),
    ("33 Y", 33.0),
    ("301", 301.0),
    *((text, math.nan) for text in ("-1", "inf", "nan", "1e3", "1000", "?", "", None, "40-49")),
]


@pytest.mark.parametrize(("text", "years"), AGES, ids=[str(text) for text, _ in AGES])
def test_an_age_is_read_from_the_ways_that_exports_write_it(text: str, years: float) -> None:
    found = selection._ages(pd.Series([text], dtype=object))
    assert found.tolist() == [pytest.approx(years, nan_ok=True)]
