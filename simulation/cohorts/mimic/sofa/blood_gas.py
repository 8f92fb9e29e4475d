"""PaO2/FiO2 of arterial blood gases.

| value         | source                          | unit and valid range                    |
|---------------|---------------------------------|-----------------------------------------|
| PaO2          | LABEVENTS 50821                 | mmHg, 0 < x <= 800                      |
| specimen      | LABEVENTS 50800                 | text: ART, VEN, MIX, CENTRAL VENOUS     |
| FiO2          | LABEVENTS 50816                 | %, 20 to 100                            |
| charted FiO2  | CHARTEVENTS 3420, 3422 (CareVue) | %, 0 < x <= 100                        |
|               | CHARTEVENTS 190 (CareVue)       | fraction, 0.2 < x < 1                   |
|               | CHARTEVENTS 223835 (MetaVision) | fraction, 0 < x <= 1, or %, 21 to 100   |

FiO2 is the laboratory's where the gas has one, else the last charted in the 4 hours before.
MIMIC-IV has the specimen as 52033, which `mimic4.sepsis3_records` rewrites.
"""

from __future__ import annotations

from simulation.cohorts.mimic.sofa.laboratory import FIO2, PO2, SPECIMEN
from simulation.cohorts.mimic.sofa.records import SofaRecords

_FIO2_PERCENT = (3420, 3422)
_FIO2_FRACTION = 190
_FIO2_METAVISION = 223835
ITEMS: frozenset[int] = frozenset({*_FIO2_PERCENT, _FIO2_FRACTION, _FIO2_METAVISION})
"""Item ids of CHARTEVENTS that this component reads."""

_CHARTED_FIO2_VALID_H = 4


def pao2_fio2(records: SofaRecords, windows: str) -> str:
    """Return a query for the PaO2/FiO2 ratios of the arterial gases in each window.

    Args:
        records: laboratory values and chart events.
        windows: DuckDB table: `window_id`, `subject_id`, `lab_start`, `window_end`.

    Returns:
        A query for `window_id`, `subject_id`, `charttime`, `ratio` (mmHg).
    """
    return f"""
        WITH gases AS (
            SELECT subject_id, charttime,
                   max(value) FILTER (itemid = {SPECIMEN}) AS specimen,
                   max(valuenum) FILTER (
                       itemid = {PO2} AND valuenum > 0 AND valuenum <= 800) AS po2,
                   max(valuenum) FILTER (itemid = {FIO2} AND valuenum BETWEEN 20 AND 100) AS fio2
            FROM {records.laboratory}
            WHERE itemid IN ({SPECIMEN}, {PO2}, {FIO2})
              AND subject_id IN (SELECT subject_id FROM {windows})
            GROUP BY subject_id, charttime, specimen_id
        ), arterial AS (
            SELECT subject_id, charttime, po2, fio2 FROM gases
            WHERE po2 IS NOT NULL AND coalesce(specimen, 'ART') = 'ART'
        ), charted AS (
            SELECT subject_id, charttime, max({_charted_percent()}) AS fio2
            FROM {records.chart}
            WHERE itemid IN ({", ".join(str(item) for item in sorted(ITEMS))})
            GROUP BY subject_id, charttime
            HAVING fio2 IS NOT NULL
        ), ratios AS (
            SELECT g.subject_id, g.charttime,
                   100 * g.po2 / coalesce(g.fio2, CASE WHEN c.charttime >= g.charttime
                       - to_hours({_CHARTED_FIO2_VALID_H}) THEN c.fio2 END) AS ratio
            FROM arterial g ASOF LEFT JOIN charted c
              ON g.subject_id = c.subject_id AND g.charttime >= c.charttime
        )
        SELECT w.window_id, r.subject_id, r.charttime, r.ratio
        FROM {windows} w JOIN ratios r
          ON r.subject_id = w.subject_id AND r.charttime BETWEEN w.lab_start AND w.window_end
        WHERE r.ratio IS NOT NULL
    """


def _charted_percent() -> str:
    percent = ", ".join(str(item) for item in _FIO2_PERCENT)
    return f"""
        CASE WHEN itemid IN ({percent}) AND valuenum > 0 AND valuenum <= 100 THEN valuenum
             WHEN itemid = {_FIO2_FRACTION} AND valuenum > 0.2 AND valuenum < 1 THEN valuenum * 100
             WHEN itemid = {_FIO2_METAVISION} AND valuenum > 0 AND valuenum <= 1 THEN valuenum * 100
             WHEN itemid = {_FIO2_METAVISION} AND valuenum BETWEEN 21 AND 100 THEN valuenum
        END
    """
