"""Episodes of invasive mechanical ventilation, from the ventilator settings that are charted.

Settings at most 8 hours apart belong to one episode; extubation, or oxygen by another device, ends
it. An episode of a single moment is left out. Item ids and texts are those of the public
MIMIC code (mimic-iii/concepts/durations/ventilation_classification).
"""

from __future__ import annotations

from simulation.cohorts.mimic.sofa.records import SofaRecords

# CHARTEVENTS: any value of these is a ventilator setting.
VENTILATOR_SETTINGS: frozenset[int] = frozenset(
    (
        *(445, 448, 449, 450, 1340, 1486, 1600, 224687),  # minute volume
        *(639, 654, 681, 682, 683, 684, 224684, 224685, 224686),  # tidal volume
        *(218, 436, 444, 459, 535, 224695, 224696, 224697, 224746, 224747),  # airway pressures
        *(1, 221, 1211, 1655, 2000, 224419, 224738, 224750, 226873, 227187),  # inspiration
        543,  # plateau pressure
        *(5865, 5866, 224705, 224706, 224707, 224709),  # APRV pressures
        *(60, 437, 505, 506, 686, 220339, 224700),  # PEEP
        3459,  # high pressure relief
        *(501, 502, 503, 224702),  # pressure control
        *(223, 667, 668, 669, 670, 671, 672),  # TCPCV
        224701,  # pressure support
        *(223849, 229314),  # mode; the second of Hamilton ventilators, in MIMIC-IV alone
    )
)
_TYPE_CAREVUE = 720
_TYPE_METAVISION = 223848
_DEVICE_CAREVUE = 467
_DEVICE_METAVISION = 226732
_EXTUBATED_CAREVUE = 640

ITEMS: frozenset[int] = VENTILATOR_SETTINGS | {
    _TYPE_CAREVUE,
    _TYPE_METAVISION,
    _DEVICE_CAREVUE,
    _DEVICE_METAVISION,
    _EXTUBATED_CAREVUE,
}
"""Item ids of CHARTEVENTS that this component reads."""

# PROCEDUREEVENTS_MV, PROCEDUREEVENTS: extubation; unplanned, by the patient; unplanned, otherwise.
EXTUBATION_PROCEDURES: tuple[int, ...] = (227194, 225468, 225477)

# Devices that are not a ventilator, in lower case and trimmed.
OXYGEN_DEVICES = (
    *("cannula", "nasal cannula", "face tent", "aerosol-cool", "trach mask", "hi flow neb"),
    *("high flow neb", "non-rebreather", "venti mask", "medium conc mask", "vapotherm", "vapomist"),
    *("t-piece", "high flow nasal cannula", "hood", "hut", "transtrachealcat", "heated neb"),
    "ultrasonic neb",
)

LONGEST_GAP_H = 8


def episodes(records: SofaRecords) -> str:
    """Return a query for the episodes: `subject_id`, `starttime`, `endtime`, both included.

    Args:
        records: chart events and procedures.
    """
    return f"""
        WITH moments AS (
            SELECT subject_id, charttime, bool_or(ventilated) AS ventilated,
                   bool_or(oxygen) AND NOT bool_or(ventilated) AS oxygen,
                   bool_or(extubated) AS extubated
            FROM ({_signs(records)})
            WHERE ventilated OR oxygen OR extubated
            GROUP BY subject_id, charttime
        ), breaks AS (
            SELECT *, coalesce(lag(extubated) OVER earlier, false) OR oxygen
                   OR coalesce(ventilated AND charttime > to_hours({LONGEST_GAP_H})
                       + max(CASE WHEN ventilated THEN charttime END) OVER (
                           earlier ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), false)
                   AS is_break
            FROM moments
            WINDOW earlier AS (PARTITION BY subject_id ORDER BY charttime)
        ), numbered AS (
            SELECT *, sum(is_break::INTEGER) OVER (
                PARTITION BY subject_id ORDER BY charttime) AS episode
            FROM breaks
        )
        SELECT subject_id, min(charttime) AS starttime, max(charttime) AS endtime
        FROM numbered WHERE ventilated OR extubated
        GROUP BY subject_id, episode
        HAVING bool_or(ventilated) AND min(charttime) < max(charttime)
    """


def _signs(records: SofaRecords) -> str:
    # One row per charted sign of ventilation, of oxygen by another device, or of extubation.
    settings = ", ".join(str(item) for item in sorted(VENTILATOR_SETTINGS))
    devices = ", ".join(f"'{device}'" for device in OXYGEN_DEVICES)
    extubations = ", ".join(str(item) for item in EXTUBATION_PROCEDURES)
    items = ", ".join(str(item) for item in sorted(ITEMS))
    return f"""
        SELECT subject_id, charttime,
               itemid IN ({settings})
                 OR (itemid = {_TYPE_CAREVUE} AND value != 'Other/Remarks')
                 OR (itemid = {_TYPE_METAVISION} AND value != 'Other')
                 OR (itemid = {_DEVICE_CAREVUE} AND value = 'Ventilator') AS ventilated,
               itemid IN ({_DEVICE_CAREVUE}, {_DEVICE_METAVISION})
                 AND lower(trim(value)) IN ({devices}) AS oxygen,
               itemid = {_EXTUBATED_CAREVUE} AND value IN ('Extubated', 'Self Extubation')
                 AS extubated
        FROM {records.chart}
        WHERE itemid IN ({items}) AND value IS NOT NULL
        UNION ALL
        SELECT subject_id, starttime, false, false, true
        FROM {records.procedures} WHERE itemid IN ({extubations})
    """
