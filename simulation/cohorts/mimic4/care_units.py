"""Care units of MIMIC-IV and the names of their sites."""

from __future__ import annotations

from collections.abc import Mapping

SITE_OF_UNIT: Mapping[str, str] = {
    "Cardiac Vascular Intensive Care Unit (CVICU)": "cvicu",
    "Coronary Care Unit (CCU)": "ccu",
    "Medical Intensive Care Unit (MICU)": "micu",
    "Medical/Surgical Intensive Care Unit (MICU/SICU)": "micu-sicu",
    "Neuro Intermediate": "neuro-intermediate",
    "Neuro Stepdown": "neuro-stepdown",
    "Neuro Surgical Intensive Care Unit (Neuro SICU)": "neuro-sicu",
    "Surgical Intensive Care Unit (SICU)": "sicu",
    "Trauma SICU (TSICU)": "tsicu",
}
"""Name of the site by FIRST_CAREUNIT as ICUSTAYS has it."""

CARE_UNITS: tuple[str, ...] = tuple(sorted(SITE_OF_UNIT.values()))
"""Names of the sites."""

OTHER_UNIT = "other"
"""Any other care unit, in the flow of exclusions."""
