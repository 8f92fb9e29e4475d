"""Respiration: the lowest PaO2/FiO2; values below 200 mmHg count as such only on ventilation."""

from __future__ import annotations

from simulation.cohorts.mimic.sofa import blood_gas, ventilation
from simulation.cohorts.mimic.sofa.records import SofaRecords


def score(records: SofaRecords, windows: str) -> str:
    """Return a query for `window_id` and `score` of respiration.

    Below 400 mmHg is 1 point, below 300 is 2; with respiratory support below 200 is 3 and below
    100 is 4. Each gas is scored by itself, since a low ratio without ventilation may occur with
    a higher one on it.

    Args:
        records: laboratory values, chart events and procedures.
        windows: DuckDB table: `window_id`, `subject_id`, `lab_start`, `window_end`.
    """
    return f"""
        WITH gases AS ({blood_gas.pao2_fio2(records, windows)}),
        episodes AS ({ventilation.episodes(records)}),
        scored AS (
            SELECT g.window_id, g.ratio,
                   coalesce(g.charttime <= e.endtime, false) AS ventilated
            FROM gases g ASOF LEFT JOIN episodes e
              ON g.subject_id = e.subject_id AND g.charttime >= e.starttime
        )
        SELECT window_id, max(CASE WHEN ventilated AND ratio < 100 THEN 4
                                   WHEN ventilated AND ratio < 200 THEN 3
                                   WHEN ratio < 300 THEN 2
                                   WHEN ratio < 400 THEN 1 ELSE 0 END) AS score
        FROM scored GROUP BY window_id
    """
