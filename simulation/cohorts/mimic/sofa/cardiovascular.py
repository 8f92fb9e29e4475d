"""Cardiovascular: mean arterial pressure and the doses of vasopressors.

| drug           | INPUTEVENTS_CV (unit)                            | INPUTEVENTS_MV |
|----------------|--------------------------------------------------|----------------|
| norepinephrine | 30047 (ug/min), 30120 (ug/kg/min)                | 221906         |
| epinephrine    | 30044 (ug/min), 30119, 30309 (ug/kg/min)         | 221289         |
| dopamine       | 30043, 30307 (ug/kg/min)                         | 221662         |
| dobutamine     | 30042, 30306 (ug/kg/min)                         | 221653         |

MetaVision's rates are ug/kg/min. The row's unit has priority over the item's. A
rate in ug/min is divided by the patient's weight: the mean of the weights charted from a day before
the window to its end (CHARTEVENTS 762, 763, 3580, 3723, 226512 in kg; 3581 in lb; 3582 in oz).

Mean arterial pressure: CHARTEVENTS 52, 6702, 456, 443 (CareVue), 220052, 225312, 220181
(MetaVision), 0 < x < 300 mmHg.
"""

from __future__ import annotations

from simulation.cohorts.mimic.sofa.records import SofaRecords

MEAN_PRESSURES = (52, 443, 456, 6702, 220052, 220181, 225312)

# Kilograms per unit charted.
WEIGHTS = {
    762: 1.0,
    763: 1.0,
    3580: 1.0,
    3723: 1.0,
    226512: 1.0,
    3581: 0.45359237,
    3582: 0.0283495231,
}

ITEMS: frozenset[int] = frozenset({*MEAN_PRESSURES, *WEIGHTS})
"""Item ids of CHARTEVENTS that this component reads."""

_PER_MINUTE = "mcgmin"
_PER_KG_MINUTE = "mcgkgmin"
# Item: drug, and the unit of its rate if the row has none.
VASOPRESSORS: dict[int, tuple[str, str]] = {
    30047: ("norepinephrine", _PER_MINUTE),
    30120: ("norepinephrine", _PER_KG_MINUTE),
    221906: ("norepinephrine", _PER_KG_MINUTE),
    30044: ("epinephrine", _PER_MINUTE),
    30119: ("epinephrine", _PER_KG_MINUTE),
    30309: ("epinephrine", _PER_KG_MINUTE),
    221289: ("epinephrine", _PER_KG_MINUTE),
    30043: ("dopamine", _PER_KG_MINUTE),
    30307: ("dopamine", _PER_KG_MINUTE),
    221662: ("dopamine", _PER_KG_MINUTE),
    30042: ("dobutamine", _PER_KG_MINUTE),
    30306: ("dobutamine", _PER_KG_MINUTE),
    221653: ("dobutamine", _PER_KG_MINUTE),
}


def score(records: SofaRecords, windows: str) -> str:
    """Return a query for `window_id` and `score` of the circulation.

    A mean pressure below 70 mmHg is 1 point; dobutamine, or dopamine up to 5 ug/kg/min, 2;
    dopamine above 5, or epinephrine or norepinephrine up to 0.1, 3; above 15 or 0.1, 4. A drug
    whose dose is unknown (no weight is known) has the least points of that drug.

    Args:
        records: chart events and infusions.
        windows: DuckDB table: `window_id`, `subject_id`, `window_start`, `window_end`.
    """
    # Rounded, since the last bit of a mean of weights depends on the order of the rows.
    return f"""
        WITH infusions AS ({_infusions(records)}),
        weights AS ({_weights(records.chart, windows)}),
        doses AS (
            SELECT w.window_id, i.drug, round(CASE i.unit WHEN '{_PER_KG_MINUTE}' THEN i.rate
                   WHEN '{_PER_MINUTE}' THEN i.rate / weights.kg END, 6) AS dose
            FROM {windows} w
            JOIN infusions i ON i.subject_id = w.subject_id
              AND i.starttime <= w.window_end AND i.endtime >= w.window_start
            LEFT JOIN weights USING (window_id)
        ), points AS (
            SELECT window_id, CASE
                   WHEN drug IN ('norepinephrine', 'epinephrine') AND dose > 0.1 THEN 4
                   WHEN drug = 'dopamine' AND dose > 15 THEN 4
                   WHEN drug IN ('norepinephrine', 'epinephrine') THEN 3
                   WHEN drug = 'dopamine' AND dose > 5 THEN 3
                   ELSE 2 END AS score
            FROM doses
            UNION ALL
            SELECT w.window_id, CASE WHEN min(c.valuenum) < 70 THEN 1 ELSE 0 END
            FROM {windows} w JOIN {records.chart} c
              ON c.subject_id = w.subject_id
              AND c.charttime BETWEEN w.window_start AND w.window_end
            WHERE c.itemid IN ({", ".join(str(item) for item in MEAN_PRESSURES)})
              AND c.valuenum > 0 AND c.valuenum < 300
            GROUP BY w.window_id
        )
        SELECT window_id, max(score) AS score FROM points GROUP BY window_id
    """


def _infusions(records: SofaRecords) -> str:
    # A rate of 0 marks the end of an infusion.
    drugs = ", ".join(
        f"({item}, '{drug}', '{unit}')" for item, (drug, unit) in VASOPRESSORS.items()
    )
    return f"""
        SELECT r.subject_id, d.drug, r.starttime, r.endtime, r.rate,
               coalesce(nullif(replace(lower(trim(r.rateuom)), '/', ''), ''), d.unit) AS unit
        FROM {records.infusions} r
        JOIN (VALUES {drugs}) d(itemid, drug, unit) USING (itemid)
        WHERE r.rate > 0
    """


def _weights(chart: str, windows: str) -> str:
    kilograms = " ".join(f"WHEN {item} THEN {factor}" for item, factor in WEIGHTS.items())
    return f"""
        SELECT w.window_id, avg(c.valuenum * CASE c.itemid {kilograms} END) AS kg
        FROM {windows} w JOIN {chart} c
          ON c.subject_id = w.subject_id
          AND c.charttime BETWEEN w.window_start - to_days(1) AND w.window_end
        WHERE c.itemid IN ({", ".join(str(item) for item in WEIGHTS)})
          AND c.valuenum > 0
        GROUP BY w.window_id
    """
