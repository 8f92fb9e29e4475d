"""ICD-10-CM codes of the sepsis rules.

MIMIC-IV stores codes without the dot (R65.20 is ``R6520``).
"""

from __future__ import annotations

SEVERE_SEPSIS_CODES: tuple[str, ...] = ("R6520",)
"""Severe sepsis without septic shock, R65.20."""

SEPTIC_SHOCK_CODES: tuple[str, ...] = ("R6521",)
"""Severe sepsis with septic shock, R65.21."""
