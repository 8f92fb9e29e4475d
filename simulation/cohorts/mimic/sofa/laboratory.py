"""Laboratory values of SOFA, and the components that use a single one: coagulation, liver.

| value      | LABEVENTS item | unit   | valid range    |
|------------|----------------|--------|----------------|
| platelets  | 51265          | K/uL   | 0 < x <= 10000 |
| bilirubin  | 50885          | mg/dL  | 0 < x <= 150   |
| creatinine | 50912          | mg/dL  | 0 < x <= 150   |
"""

from __future__ import annotations

from simulation.cohorts.mimic.sofa.records import SofaRecords

PLATELETS = 51265
BILIRUBIN = 50885
CREATININE = 50912
SPECIMEN = 50800
FIO2 = 50816
PO2 = 50821

_MOST_VALID = {PLATELETS: 10_000, BILIRUBIN: 150, CREATININE: 150}
LABORATORY_ITEMS: frozenset[int] = frozenset(
    {PLATELETS, BILIRUBIN, CREATININE, SPECIMEN, FIO2, PO2}
)
"""Item ids of LABEVENTS that all components read."""


def coagulation(records: SofaRecords, windows: str) -> str:
    """Return a query for `window_id` and `score` of coagulation, by the lowest platelet count."""
    return f"""
        SELECT window_id, CASE WHEN lowest < 20 THEN 4 WHEN lowest < 50 THEN 3
                               WHEN lowest < 100 THEN 2 WHEN lowest < 150 THEN 1 ELSE 0 END AS score
        FROM ({extreme(records, windows, PLATELETS, "min", "lowest")})
    """


def liver(records: SofaRecords, windows: str) -> str:
    """Return a query for `window_id` and `score` of the liver, by the highest bilirubin."""
    return f"""
        SELECT window_id, CASE WHEN highest >= 12 THEN 4 WHEN highest >= 6 THEN 3
                               WHEN highest >= 2 THEN 2 WHEN highest >= 1.2 THEN 1
                               ELSE 0 END AS score
        FROM ({extreme(records, windows, BILIRUBIN, "max", "highest")})
    """


def extreme(records: SofaRecords, windows: str, item: int, aggregate: str, name: str) -> str:
    """Return a query for the extreme of a laboratory value in each window that has one.

    Args:
        records: the laboratory values.
        windows: DuckDB table: `window_id`, `subject_id`, `lab_start`, `window_end`.
        item: the item id.
        aggregate: ``min`` or ``max``.
        name: the column's name.

    Returns:
        A query for `window_id` and the column.
    """
    return f"""
        SELECT w.window_id, {aggregate}(l.valuenum) AS {name}
        FROM {windows} w JOIN {records.laboratory} l
          ON l.subject_id = w.subject_id AND l.charttime BETWEEN w.lab_start AND w.window_end
        WHERE l.itemid = {item} AND l.valuenum > 0 AND l.valuenum <= {_MOST_VALID[item]}
        GROUP BY w.window_id
    """
