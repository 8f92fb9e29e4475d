"""Central nervous system: the lowest Glasgow coma scale.

| part   | CHARTEVENTS, CareVue | MetaVision | normal |
|--------|----------------------|------------|--------|
| eyes   | 184                  | 220739     | 4      |
| verbal | 723                  | 223900     | 5      |
| motor  | 454                  | 223901     | 6      |

A part that was not charted has the value of the charting before, if that is less than 6 hours old,
else it is normal. An intubated patient cannot answer verbally (``1.0 ET/Trach``,
``No Response-ETT``) and is mostly sedated: such a charting counts as 15, the state before sedation.
CareVue's charted sum (198) is not read, since its parts are.
"""

from __future__ import annotations

from simulation.cohorts.mimic.sofa.records import SofaRecords

EYES = (184, 220739)
VERBAL = (723, 223900)
MOTOR = (454, 223901)
ITEMS: frozenset[int] = frozenset({*EYES, *VERBAL, *MOTOR})
"""Item ids of CHARTEVENTS that this component reads."""

INTUBATED = ("1.0 ET/Trach", "No Response-ETT")
CARRY_H = 6


def score(records: SofaRecords, windows: str) -> str:
    """Return a query for `window_id` and `score` of the central nervous system.

    13 and 14 are 1 point, 10 to 12 are 2, 6 to 9 are 3, below 6 are 4.

    Args:
        records: the chart events.
        windows: DuckDB table: `window_id`, `subject_id`, `window_start`, `window_end`.
    """
    return f"""
        SELECT window_id, CASE WHEN lowest < 6 THEN 4 WHEN lowest < 10 THEN 3
                               WHEN lowest < 13 THEN 2 WHEN lowest < 15 THEN 1 ELSE 0 END AS score
        FROM (SELECT window_id, min(gcs) AS lowest FROM ({_coma_scales(records.chart, windows)})
              GROUP BY window_id)
    """


def _coma_scales(chart: str, windows: str) -> str:
    tube = ", ".join(f"'{text}'" for text in INTUBATED)
    return f"""
        WITH parts AS (
            SELECT w.window_id, c.charttime, {_part(EYES)} AS eyes, {_part(MOTOR)} AS motor,
                   max(CASE WHEN c.value IN ({tube}) THEN 0 ELSE c.valuenum END)
                       FILTER (c.itemid IN {VERBAL}) AS verbal
            FROM {windows} w JOIN {chart} c
              ON c.subject_id = w.subject_id
              AND c.charttime BETWEEN w.window_start AND w.window_end
            WHERE c.itemid IN ({", ".join(str(item) for item in sorted(ITEMS))})
            GROUP BY w.window_id, c.charttime
        ), carried AS (
            SELECT window_id, eyes, motor, verbal, {_before("eyes")}, {_before("motor")},
                   {_before("verbal")}
            FROM parts
            WINDOW earlier AS (PARTITION BY window_id ORDER BY charttime)
        )
        -- A charting under intubation (verbal 0) is not carried over to the next.
        SELECT window_id, CASE
               WHEN coalesce(verbal, verbal_before) = 0 THEN 15
               WHEN verbal_before = 0 THEN coalesce(eyes, 4) + coalesce(motor, 6) + verbal
               ELSE coalesce(eyes, eyes_before, 4) + coalesce(motor, motor_before, 6)
                    + coalesce(verbal, verbal_before, 5) END AS gcs
        FROM carried
    """


def _part(items: tuple[int, int]) -> str:
    return f"max(c.valuenum) FILTER (c.itemid IN {items})"


def _before(part: str) -> str:
    return f"""
        CASE WHEN lag(charttime) OVER earlier > charttime - to_hours({CARRY_H})
             THEN lag({part}) OVER earlier END AS {part}_before
    """
