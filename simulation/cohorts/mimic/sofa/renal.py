"""Renal: the highest creatinine and the urine output of a day.

Urine is the sum of the OUTPUTEVENTS rows of `URINE_ITEMS`, in mL, less the irrigant put into the
bladder (`IRRIGANT_IN`). Creatinine: see `laboratory`.

Urine output is in mL per day. The hours that the window shares with an ICU stay, in which urine is
charted, are split into days from their start; a last day of at least 12 hours is scaled to 24, a
shorter one is left out, and the lowest day counts.
"""

from __future__ import annotations

from simulation.cohorts.mimic.sofa.laboratory import CREATININE, extreme
from simulation.cohorts.mimic.sofa.records import SofaRecords

URINE_ITEMS: tuple[int, ...] = (
    *(40055, 40056, 40057, 40069, 40085, 40086, 40094, 40096, 40405, 40428, 40473, 40651, 40715),
    *(43175, 226557, 226558, 226559, 226560, 226561, 226563, 226564, 226565, 226567, 226584),
    *(227488, 227489),
)
"""Item ids of OUTPUTEVENTS that this component reads."""

IRRIGANT_IN = 227488

DAY_H = 24
SHORTEST_DAY_H = 12


def score(records: SofaRecords, windows: str) -> str:
    """Return a query for `window_id` and `score` of the kidneys.

    Creatinine from 1.2, 2.0, 3.5 and 5.0 mg/dL is 1, 2, 3 and 4 points; urine below 500 mL a day
    is 3, below 200 is 4.

    Args:
        records: laboratory values, urine and stays.
        windows: DuckDB table: `window_id`, `subject_id`, `lab_start`, `window_start`, `window_end`.
    """
    return f"""
        SELECT window_id, max(score) AS score FROM (
            SELECT window_id, CASE WHEN highest >= 5 THEN 4 WHEN highest >= 3.5 THEN 3
                                   WHEN highest >= 2 THEN 2 WHEN highest >= 1.2 THEN 1
                                   ELSE 0 END AS score
            FROM ({extreme(records, windows, CREATININE, "max", "highest")})
            UNION ALL
            SELECT window_id, CASE WHEN min(ml_a_day) < 200 THEN 4 WHEN min(ml_a_day) < 500 THEN 3
                                   ELSE 0 END
            FROM ({_days(records, windows)}) GROUP BY window_id
        ) GROUP BY window_id
    """


def _days(records: SofaRecords, windows: str) -> str:
    items = ", ".join(str(item) for item in URINE_ITEMS)
    # Charts just after the stay (emptied at the transfer) belong to its last day. The sum is
    # rounded, since its last bit depends on the order of the rows.
    return f"""
        WITH parts AS (
            SELECT w.window_id, s.stay_id, w.window_start, w.window_end,
                   greatest(w.window_start, s.intime) AS part_start,
                   date_sub('minute', greatest(w.window_start, s.intime),
                            least(w.window_end, coalesce(s.outtime, w.window_end))) / 60 AS hours
            FROM {windows} w JOIN {records.stays} s
              ON s.subject_id = w.subject_id AND s.intime <= w.window_end
              AND coalesce(s.outtime, w.window_end) >= w.window_start
        ), days AS (
            SELECT p.window_id, p.stay_id, p.hours,
                   least(date_sub('hour', p.part_start, o.charttime) // {DAY_H},
                         greatest(ceil(p.hours / {DAY_H}) - 1, 0)) AS day,
                   sum(CASE WHEN o.itemid = {IRRIGANT_IN} THEN -abs(o.value) ELSE o.value END) AS ml
            FROM parts p JOIN {records.outputs} o
              ON o.stay_id = p.stay_id AND o.charttime BETWEEN p.part_start AND p.window_end
            WHERE o.itemid IN ({items}) AND o.value IS NOT NULL
            GROUP BY p.window_id, p.stay_id, p.hours, day
        )
        SELECT window_id,
               round(ml * {DAY_H} / least(hours - day * {DAY_H}, {DAY_H}), 3) AS ml_a_day
        FROM days WHERE hours - day * {DAY_H} >= {SHORTEST_DAY_H}
    """
