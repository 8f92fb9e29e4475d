"""Sepsis-3: a suspected infection around the stay, with organ dysfunction around its time.

Singer et al. 2016, doi 10.1001/jama.2016.0287. The worst SOFA of the whole window counts, from
48 hours before the suspected infection to 24 hours after it, both ends included.
"""

from __future__ import annotations

import duckdb

from simulation.cohorts.mimic.sofa.records import SofaRecords
from simulation.cohorts.mimic.sofa.score import sofa_scores

SOFA_BEFORE_H = 48
SOFA_AFTER_H = 24
"""Hours before and after the suspected infection in which organ dysfunction counts."""

SEPSIS3_SOFA = 2
"""Least SOFA of a septic patient; the SOFA before the illness is taken as 0, as usual."""


def infection_windows(connection: duckdb.DuckDBPyConnection, infections: str, stays: str) -> str:
    """Find the windows of SOFA around suspected infections.

    An admission may have an infection weeks before or after the stay. It counts only if its window
    overlaps the stay.

    Args:
        connection: the database of the tables.
        infections: a DuckDB table, see `suspected_infection.suspected_infections`.
        stays: a DuckDB table with the columns `stay_id`, `intime` and `outtime`.

    Returns:
        The name of a DuckDB table with the columns `subject_id`, `hadm_id`, `stay_id`,
        `window_start` and `window_end`.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE sepsis3_windows AS
        SELECT i.subject_id, i.hadm_id, i.stay_id,
               i.infection_time - to_hours({SOFA_BEFORE_H}) AS window_start,
               i.infection_time + to_hours({SOFA_AFTER_H}) AS window_end
        FROM {infections} i JOIN {stays} s USING (stay_id)
        WHERE i.infection_time + to_hours({SOFA_AFTER_H}) >= s.intime
          AND i.infection_time - to_hours({SOFA_BEFORE_H}) <= coalesce(s.outtime, i.infection_time)
        """
    )
    return "sepsis3_windows"


def sepsis3_stays(
    connection: duckdb.DuckDBPyConnection, records: SofaRecords, windows: str
) -> list[int]:
    """Select the stays with Sepsis-3: of several infections, any with SOFA >= 2 counts.

    Args:
        connection: the database of the records.
        records: of the patients of the windows.
        windows: a DuckDB table, see `infection_windows`.

    Returns:
        Their `stay_id`, ascending.
    """
    scores = sofa_scores(connection, records, windows)
    query = f"SELECT DISTINCT stay_id FROM {scores} WHERE sofa >= {SEPSIS3_SOFA} ORDER BY stay_id"
    return [int(stay_id) for (stay_id,) in connection.execute(query).fetchall()]
