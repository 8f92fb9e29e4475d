"""SOFA, the sequential organ failure assessment, over any windows of time.

Vincent et al. 1996, doi 10.1007/BF01709751, table 3: six organ systems of 0 (normal) to 4 points,
each by its worst value in the window; a component without a measurement counts 0. One module per
source of measurements, each with its item ids:

| component      | module         | worst value of                                              |
|----------------|----------------|-------------------------------------------------------------|
| respiration    | respiration    | PaO2/FiO2 (`blood_gas`), ventilated or not (`ventilation`)    |
| coagulation    | laboratory     | platelets                                                   |
| liver          | laboratory     | bilirubin                                                   |
| cardiovascular | cardiovascular | mean arterial pressure, doses of vasopressors               |
| cns            | neurological   | Glasgow coma scale                                          |
| renal          | renal          | creatinine, urine output                                    |

Item ids and unit handling are those of the public MIMIC code (github.com/MIT-LCP/mimic-code,
mimic-iii/concepts). MIMIC-IV has the items of MetaVision alone and the same definitions;
docs/explanation/cohort.md has the differences from mimic-iv/concepts/score/sofa. Where this module
differs from the first-day SOFA of mimic-iii/concepts, and why:

- A ventilated ratio from 200 to 400 has the points of an unventilated one, as in the paper; there
  it has none.
- A gas without a specimen label is arterial; there a fitted model decides, for venous ones too.
- Urine of less than a day is scaled to a day, or left out (`renal`); there it counts as a full day.
- An infusion that started before the window and runs in it counts, one charted with rate 0 does
  not, and one without a known weight has the drug's least points; there it is the opposite.
- Rows without ICUSTAY_ID count, by patient and time; there they are lost.
"""

from __future__ import annotations

import duckdb

from simulation.cohorts.mimic.sofa import (
    blood_gas,
    cardiovascular,
    laboratory,
    neurological,
    renal,
    respiration,
    ventilation,
)
from simulation.cohorts.mimic.sofa.records import SofaRecords

SOFA_ITEMS: frozenset[int] = (
    blood_gas.ITEMS | ventilation.ITEMS | cardiovascular.ITEMS | neurological.ITEMS
)
"""Item ids of CHARTEVENTS that SOFA reads, with text values."""

COMPONENTS: tuple[str, ...] = (
    "respiration",
    "coagulation",
    "liver",
    "cardiovascular",
    "cns",
    "renal",
)

FIRST_DAY_LAB_LOOKBACK_H = 6
"""Hours before ICU admission from which laboratory values count for the first day."""

_WINDOWS = "sofa_windows"


def sofa_scores(
    connection: duckdb.DuckDBPyConnection,
    records: SofaRecords,
    windows: str,
    *,
    lab_lookback_h: int = 0,
) -> str:
    """Score SOFA in windows of time.

    All records of the patient in the window count, both ends included, from any ward or ICU stay.

    Args:
        connection: the database of the records.
        records: of these patients at least.
        windows: a DuckDB table: `subject_id`, `stay_id`, `window_start`, `window_end`. A stay
            may have several windows.
        lab_lookback_h: hours before the window from which laboratory values count.

    Returns:
        The name of a DuckDB table with one row per window: `stay_id`, `window_start`,
        `window_end`, the six `COMPONENTS` (0 to 4, NULL where nothing was measured) and `sofa`
        (0 to 24).
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {_WINDOWS} AS
        SELECT row_number() OVER () AS window_id, subject_id, stay_id, window_start, window_end,
               window_start - to_hours({lab_lookback_h}) AS lab_start
        FROM (SELECT DISTINCT subject_id, stay_id, window_start, window_end FROM {windows})
        """
    )
    queries = {
        "respiration": respiration.score(records, _WINDOWS),
        "coagulation": laboratory.coagulation(records, _WINDOWS),
        "liver": laboratory.liver(records, _WINDOWS),
        "cardiovascular": cardiovascular.score(records, _WINDOWS),
        "cns": neurological.score(records, _WINDOWS),
        "renal": renal.score(records, _WINDOWS),
    }
    # Each component into a small table of its own: memory is that of one join, not of six.
    for component, query in queries.items():
        connection.execute(f"CREATE OR REPLACE TEMP TABLE sofa_{component} AS {query}")
    joins = " ".join(f"LEFT JOIN sofa_{name} USING (window_id)" for name in COMPONENTS)
    columns = ", ".join(f"sofa_{name}.score::INTEGER AS {name}" for name in COMPONENTS)
    total = " + ".join(f"coalesce(sofa_{name}.score, 0)" for name in COMPONENTS)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE sofa_scores AS
        SELECT stay_id, window_start, window_end, {columns}, ({total})::INTEGER AS sofa
        FROM {_WINDOWS} {joins}
        """
    )
    return "sofa_scores"


def first_day_sofa(connection: duckdb.DuckDBPyConnection, records: SofaRecords, stays: str) -> str:
    """Score SOFA in the first 24 hours of ICU stays, laboratory values from 6 hours before.

    Args:
        connection: the database of the records.
        records: as for `sofa_scores`.
        stays: a DuckDB table: `subject_id`, `stay_id`, `intime`.

    Returns:
        As `sofa_scores`, one row per stay.
    """
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE first_day_windows AS
        SELECT subject_id, stay_id, intime AS window_start,
               intime + to_hours(24) AS window_end
        FROM {stays}
        """
    )
    return sofa_scores(
        connection, records, "first_day_windows", lab_lookback_h=FIRST_DAY_LAB_LOOKBACK_H
    )
