"""Sites of eICU-CRD: its 208 hospitals, or groups of stays by what is known of hospital and unit.

| --sites  | a site is                                            | e.g.                    |
|----------|------------------------------------------------------|-------------------------|
| hospital | a hospital                                           | hospital-73             |
| region   | the hospitals of a region of the United States       | region-midwest          |
| bed-size | the hospitals of a category of beds                  | beds-100-249            |
| teaching | teaching hospitals, and the others                   | teaching, non-teaching  |
| unit     | a type of unit, of all hospitals                     | unit-med-surg-icu       |

What a hospital does not state is a site of its own, as region-unknown.
"""

from __future__ import annotations

import re

import pandas as pd

SITE_KINDS: tuple[str, ...] = ("hospital", "region", "unit", "bed-size", "teaching")

HOSPITAL_KINDS: frozenset[str] = frozenset({"region", "bed-size", "teaching"})
"""Those that need the table of hospitals."""

_BEDS = {"<100": "under-100", ">= 500": "500-or-more"}
_TEACHING = {"t": "teaching", "true": "teaching", "f": "non-teaching", "false": "non-teaching"}


def site_names(stays: pd.DataFrame, kind: str) -> pd.Series[str]:
    """Return the site of each stay.

    Args:
        stays: `hospitalid`, `unittype`, and for `HOSPITAL_KINDS` `region`, `numbedscategory` and
            `teachingstatus`, as eICU writes them, missing where unknown.
        kind: one of `SITE_KINDS`.

    Returns:
        Lower-case names of letters, digits and hyphens.
    """
    if kind == "hospital":
        return "hospital-" + stays["hospitalid"].astype(int).astype(str)
    if kind == "region":
        return "region-" + _slugs(stays["region"])
    if kind == "unit":
        return "unit-" + _slugs(stays["unittype"])
    if kind == "bed-size":
        beds = stays["numbedscategory"].astype(object).str.strip()
        return "beds-" + _slugs(beds.replace(_BEDS))
    status = stays["teachingstatus"].astype(object).str.strip().str.lower()
    return status.map(_TEACHING).fillna("teaching-unknown").astype(str)


def unit_slugs(stays: pd.DataFrame) -> pd.Series[str]:
    """Return the unit type of each stay as a name, ``unknown`` where it has none."""
    return _slugs(stays["unittype"])


def _slugs(texts: pd.Series[str]) -> pd.Series[str]:
    return texts.astype(object).map(_slug, na_action="ignore").fillna("unknown").astype(str)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "unknown"
