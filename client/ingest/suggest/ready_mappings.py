"""Ready mappings of deploy/site for layouts that many hospitals share, by a table's columns."""

from __future__ import annotations

from collections.abc import Iterable

_LAYOUTS = {
    "mapping.omop.toml": {"person_id", "measurement_concept_id", "value_as_number"},
    "mapping.clif.toml": {"hospitalization_id", "recorded_dttm", "vital_category", "vital_value"},
    "mapping.meds.toml": {"subject_id", "time", "code", "numeric_value"},
    # The columns that NDJSON of a FHIR observation is read as.
    "mapping.fhir.toml": {"status", "patient", "encounter", "time", "code", "value", "unit"},
}


def ready_mapping(columns: Iterable[str]) -> str:
    """Return the path of the ready mapping for a table of rows; empty if none fits.

    Args:
        columns: the table's columns.
    """
    names = {name.lower() for name in columns}
    return next((f"deploy/site/{name}" for name, own in _LAYOUTS.items() if own <= names), "")
