"""FHIR resources as tables: the fields that are read of each, and the columns made of them.

R4 (hl7.org/fhir/R4), as US Core's and the Bulk Data export have it; of R5 `actualPeriod` and a list
of classes are read too. An id is that of the resource: `Patient/17` and `https://host/Patient/17`
are `17`.
"""

from __future__ import annotations

from collections.abc import Sequence

from client.ingest.duckdb_helpers import literals

LOINC = "http://loinc.org"
_ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"

_CODING = 'STRUCT("system" VARCHAR, code VARCHAR)[]'
_CONCEPT = f"STRUCT(coding {_CODING}, text VARCHAR)"
_REFERENCE = "STRUCT(reference VARCHAR, display VARCHAR)"
_PERIOD = 'STRUCT("start" VARCHAR, "end" VARCHAR)'
_QUANTITY = 'STRUCT("value" VARCHAR, comparator VARCHAR, unit VARCHAR, code VARCHAR)'
_VALUE = {"code": _CONCEPT, "valueQuantity": _QUANTITY, "valueString": "VARCHAR"}
_STARTED = {"resourceType": "VARCHAR", "id": "VARCHAR", "status": "VARCHAR"}

FIELDS: dict[str, dict[str, str]] = {
    "Observation": {
        **_STARTED,
        **_VALUE,
        "subject": _REFERENCE,
        "encounter": _REFERENCE,
        "effectiveDateTime": "VARCHAR",
        "effectiveInstant": "VARCHAR",
        "effectivePeriod": _PERIOD,
        "component": f"STRUCT({', '.join(f'{name} {kind}' for name, kind in _VALUE.items())})[]",
    },
    "Encounter": {
        **_STARTED,
        "class": "JSON",
        "subject": _REFERENCE,
        "partOf": _REFERENCE,
        "period": _PERIOD,
        "actualPeriod": _PERIOD,
        "location": f"STRUCT(location {_REFERENCE}, period {_PERIOD})[]",
    },
    "Patient": {
        **_STARTED,
        "gender": "VARCHAR",
        "birthDate": "VARCHAR",
        "deceasedBoolean": "VARCHAR",
        "deceasedDateTime": "VARCHAR",
    },
    "Location": {**_STARTED, "name": "VARCHAR", "type": f"{_CONCEPT}[]", "partOf": _REFERENCE},
}
"""By resource: the fields to read with their DuckDB types; others are skipped."""


def table_of(resource: str, codes: Sequence[str]) -> str:
    """Return the query from the relation `resources` to the table of a resource.

    Args:
        resource: a key of `FIELDS`.
        codes: the codes that the mapping names; of several codings of an observation one of these
            is taken, else the first LOINC code.
    """
    return _TABLES[resource].replace("{code}", _code("part.code", codes))


def _id(reference: str, kind: str) -> str:
    """Return the SQL of the id in a reference to a resource; other references as they are."""
    found = f"nullif(regexp_extract({reference}, '(?:^|/){kind}/([^/]+)', 1), '')"
    return f"coalesce({found}, {reference})"


def _code(concept: str, codes: Sequence[str]) -> str:
    """Return the SQL of a concept's code: of LOINC alone, of others `system|code`."""
    token = f"if(c.system = '{LOINC}', c.code, concat_ws('|', c.system, c.code))"
    tokens = f"[{token} FOR c IN {concept}.coding]"
    known = literals(codes) if codes else "NULL"
    return (
        f"coalesce([c FOR c IN {tokens} IF c IN ({known})][1], "
        f"[c.code FOR c IN {concept}.coding IF c.system = '{LOINC}'][1], {tokens}[1], "
        f"{concept}.text)"
    )


_OBSERVATION = f"""
    SELECT id, status, {_id("subject.reference", "Patient")} AS patient,
        {_id("encounter.reference", "Encounter")} AS encounter,
        -- A day without a time is no time of a measurement.
        CASE WHEN contains(moment, 'T') THEN moment END AS "time", {{code}} AS code,
        -- A value below or above a limit is a text, no number.
        coalesce(coalesce(part.valueQuantity.comparator, '') || part.valueQuantity.value,
            part.valueString) AS value,
        coalesce(part.valueQuantity.code, part.valueQuantity.unit) AS unit
    FROM (
        SELECT *, coalesce(effectiveDateTime, effectiveInstant, effectivePeriod.start)
            AS moment,
            unnest(list_concat(
                -- A panel has components and no value of its own.
                CASE WHEN valueQuantity IS NOT NULL OR valueString IS NOT NULL
                    OR coalesce(len(component), 0) = 0
                THEN [{{'code': code, 'valueQuantity': valueQuantity, 'valueString': valueString}}]
                ELSE [] END, coalesce(component, []))) AS part
        FROM resources)"""

_ENCOUNTER = f"""
    SELECT id AS encounter, status,
        coalesce(class ->> '$.code', class ->> '$[0].coding[0].code') AS class,
        {_id("subject.reference", "Patient")} AS patient,
        {_id("partOf.reference", "Encounter")} AS part_of,
        {_id("place.location.reference", "Location")} AS location,
        place.location.display AS location_display,
        coalesce(place.period.start, whole.start) AS "start",
        coalesce(place.period.end, whole.end) AS "end"
    FROM (
        SELECT *, coalesce(period, actualPeriod) AS whole,
            -- An encounter without a location is one row.
            unnest(if(coalesce(len(location), 0) = 0, [NULL], location)) AS place
        FROM resources)"""

_PATIENT = """
    SELECT id AS patient, gender, birthDate AS birth_date,
        if(deceasedDateTime IS NOT NULL, 'true', deceasedBoolean) AS deceased
    FROM resources"""

_LOCATION = f"""
    SELECT id AS location, name AS location_name, coalesce(
            [c.code FOR c IN flatten([t.coding FOR t IN type]) IF c.system = '{_ROLE}'][1],
            flatten([t.coding FOR t IN type])[1].code) AS location_type,
        {_id("partOf.reference", "Location")} AS location_part_of
    FROM resources"""

_TABLES = {
    "Observation": _OBSERVATION,
    "Encounter": _ENCOUNTER,
    "Patient": _PATIENT,
    "Location": _LOCATION,
}
