"""Stays from the events of admission and discharge, with site, age and sex."""

from __future__ import annotations

import re

import duckdb
import pandas as pd

from common.errors import SourceError
from simulation.cohorts.meds.codes import MedsCodes, matches
from simulation.cohorts.meds.events import EVENTS

NO_SITE = "unknown"
_LONGEST_NAME = 64

_STAYS = f"""
    WITH coded AS (FROM {EVENTS} JOIN meds_codes USING (code)),
    admissions AS (
        SELECT subject_id, time AS intime,
            lead(time) OVER (PARTITION BY subject_id ORDER BY time) AS next_intime
        FROM (SELECT DISTINCT subject_id, time FROM coded WHERE is_admission AND time IS NOT NULL)
    ), ended AS (
        SELECT a.subject_id, a.intime,
            -- A discharge at the moment of an admission ends the stay before it.
            coalesce(min(d.time), any_value(a.next_intime)) AS outtime
        FROM admissions a LEFT JOIN (SELECT subject_id, time FROM coded WHERE is_discharge) d
        ON d.subject_id = a.subject_id AND d.time > a.intime
            AND (a.next_intime IS NULL OR d.time <= a.next_intime)
        GROUP BY a.subject_id, a.intime
    ), sites AS (
        SELECT e.subject_id, e.intime, s.site
        FROM ended e JOIN (
            SELECT subject_id, site, coalesce(time, TIMESTAMP '-infinity') AS time
            FROM coded WHERE site IS NOT NULL
        ) s ON s.subject_id = e.subject_id AND s.time <= e.intime
        QUALIFY row_number() OVER (
            PARTITION BY e.subject_id, e.intime ORDER BY s.time DESC, s.site
        ) = 1
    ), patients AS (
        SELECT subject_id, min(time) FILTER (is_birth) AS birth,
            coalesce(bool_or(is_female), false) AS female, coalesce(bool_or(is_male), false) AS male
        FROM coded GROUP BY subject_id
    )
    SELECT e.subject_id, e.subject_id::VARCHAR AS patient_id,
        e.subject_id || '-' || row_number() OVER (PARTITION BY e.subject_id ORDER BY e.intime)
            AS stay_id,
        e.intime, e.outtime, coalesce(s.site, '{NO_SITE}') AS unit,
        date_sub('year', p.birth, e.intime)::DOUBLE AS age,
        CASE WHEN p.female = p.male THEN '' WHEN p.female THEN 'female' ELSE 'male' END AS sex
    FROM ended e LEFT JOIN sites s USING (subject_id, intime) JOIN patients p USING (subject_id)
    ORDER BY e.subject_id, e.intime
"""


def find_stays(connection: duckdb.DuckDBPyConnection, codes: MedsCodes) -> pd.DataFrame:
    """Return the stays of all subjects, in the order of subject and time.

    A stay lasts from an admission to the first later discharge, at most to the next admission.

    Args:
        connection: has `EVENTS`; gets `meds_codes`, the meaning of each code.
        codes: the table of codes.

    Returns:
        `subject_id`, `patient_id`, `stay_id` (subject and number of the stay), `intime`, `outtime`
        (missing if no event ends the stay), `unit` (the site; `NO_SITE` if no event gives it),
        `age` in years (NaN = unknown) and `sex` (empty = unknown).

    Raises:
        UsageError: a code charts two vital signs.
        SourceError: two texts of sites would have one name.
    """
    _register_codes(connection, codes)
    return connection.execute(_STAYS).df()


def _register_codes(connection: duckdb.DuckDBPyConnection, codes: MedsCodes) -> None:
    found = connection.execute(f"SELECT DISTINCT code FROM {EVENTS} ORDER BY code").fetchall()
    names = _site_names(codes, [code for (code,) in found])
    rows = [
        (
            code,
            codes.item_of(code),
            matches(code, codes.stays.admission),
            matches(code, codes.stays.discharge),
            names.get(code),
            matches(code, codes.patients.birth),
            matches(code, codes.patients.female),
            matches(code, codes.patients.male),
        )
        for (code,) in found
    ]
    connection.execute(
        "CREATE OR REPLACE TABLE meds_codes (code VARCHAR, itemid INTEGER, is_admission BOOLEAN, "
        "is_discharge BOOLEAN, site VARCHAR, is_birth BOOLEAN, is_female BOOLEAN, is_male BOOLEAN)"
    )
    if rows:
        connection.executemany("INSERT INTO meds_codes VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _site_names(codes: MedsCodes, found: list[str]) -> dict[str, str]:
    """Return the name of the site by code, for the codes that give one."""
    text_of_name: dict[str, str] = {}
    names = {}
    for code in found:
        text = codes.site_text(code)
        if text is None:
            continue
        name = codes.sites.names.get(text)
        if name is None:
            name = _as_name(text)
            other = text_of_name.setdefault(name, text)
            if other != text or name in codes.sites.names.values():
                raise SourceError(
                    f"the site {text!r} would have the name {name}, as another site has; give it a "
                    "name in [sites.names] of the table of codes"
                )
        names[code] = name
    return names


def _as_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].strip("-")
    return name or NO_SITE
