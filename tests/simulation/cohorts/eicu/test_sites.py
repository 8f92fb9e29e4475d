from __future__ import annotations

import re

import pandas as pd
import pytest

from simulation.cohorts.eicu.sites import SITE_KINDS, site_names

STAYS = pd.DataFrame(
    {
        "hospitalid": [73, 264, 5],
        "region": ["Midwest", "South", None],
        "numbedscategory": ["<100", "100 - 249", ">= 500"],
        "teachingstatus": ["t", "f", None],
        "unittype": ["Med-Surg ICU", "CCU-CTICU", None],
    }
)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("hospital", ["hospital-73", "hospital-264", "hospital-5"]),
        ("region", ["region-midwest", "region-south", "region-unknown"]),
        ("bed-size", ["beds-under-100", "beds-100-249", "beds-500-or-more"]),
        ("teaching", ["teaching", "non-teaching", "teaching-unknown"]),
        ("unit", ["unit-med-surg-icu", "unit-ccu-cticu", "unit-unknown"]),
    ],
)
def test_names_of_sites(kind: str, names: list[str]) -> None:
    assert site_names(STAYS, kind).tolist() == names


@pytest.mark.parametrize("kind", SITE_KINDS)
def test_names_are_plain(kind: str) -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9-]*", name) for name in site_names(STAYS, kind))
