"""The items that the synthetic hospital charts: ids, labels, units, and the rows of D_ITEMS.

Item ids are those of MIMIC-III v1.4, as MIT-LCP/mimic-code's concepts use them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulation.cohorts.synthetic.tables import TableWriter


@dataclass(frozen=True)
class Item:
    """One row of D_ITEMS: label, unit as events state it, and the table of its events."""

    label: str
    unit: str | None = None
    table: str = "chartevents"


CAREVUE: dict[int, Item] = {
    211: Item("Heart Rate", "BPM"),
    51: Item("Arterial BP [Systolic]", "mmHg"),
    8368: Item("Arterial BP [Diastolic]", "mmHg"),
    52: Item("Arterial BP Mean", "mmHg"),
    6701: Item("Arterial BP #2 [Systolic]", "mmHg"),
    8555: Item("Arterial BP #2 [Diastolic]", "mmHg"),
    6702: Item("Arterial BP Mean #2", "mmHg"),
    455: Item("NBP [Systolic]", "mmHg"),
    8441: Item("NBP [Diastolic]", "mmHg"),
    456: Item("NBP Mean", "mmHg"),
    442: Item("Manual BP [Systolic]", "mmHg"),
    8440: Item("Manual BP [Diastolic]", "mmHg"),
    443: Item("Manual BP Mean(calc)", "mmHg"),
    618: Item("Respiratory Rate", "BPM"),
    615: Item("Resp Rate (Total)", "BPM"),
    678: Item("Temperature F", "Deg. F"),
    676: Item("Temperature C", "Deg. C"),
    646: Item("SpO2", "%"),
    198: Item("GCS Total", "points"),
    184: Item("Eye Opening"),
    723: Item("Verbal Response"),
    454: Item("Motor Response"),
    190: Item("FiO2 Set", "torr"),
    720: Item("Ventilator Mode"),
    506: Item("PEEP Set", "cmH2O"),
    467: Item("O2 Delivery Device"),
    762: Item("Admit Wt", "kg"),
    30047: Item("Levophed", "mcgmin", "inputevents_cv"),
    30120: Item("Levophed-k", "mcgkgmin", "inputevents_cv"),
    30018: Item(".9% Normal Saline", "ml", "inputevents_cv"),
    40055: Item("Urine Out Foley", "ml", "outputevents"),
}
METAVISION: dict[int, Item] = {
    220045: Item("Heart Rate", "bpm"),
    220050: Item("Arterial Blood Pressure systolic", "mmHg"),
    220051: Item("Arterial Blood Pressure diastolic", "mmHg"),
    220052: Item("Arterial Blood Pressure mean", "mmHg"),
    225309: Item("ART BP Systolic", "mmHg"),
    225310: Item("ART BP Diastolic", "mmHg"),
    225312: Item("ART BP mean", "mmHg"),
    220179: Item("Non Invasive Blood Pressure systolic", "mmHg"),
    220180: Item("Non Invasive Blood Pressure diastolic", "mmHg"),
    220181: Item("Non Invasive Blood Pressure mean", "mmHg"),
    220210: Item("Respiratory Rate", "insp/min"),
    224690: Item("Respiratory Rate (Total)", "insp/min"),
    223761: Item("Temperature Fahrenheit", "?F"),
    223762: Item("Temperature Celsius", "?C"),
    220277: Item("O2 saturation pulseoxymetry", "%"),
    220739: Item("GCS - Eye Opening"),
    223900: Item("GCS - Verbal Response"),
    223901: Item("GCS - Motor Response"),
    223835: Item("Inspired O2 Fraction"),
    223849: Item("Ventilator Mode"),
    220339: Item("PEEP set", "cmH2O"),
    226732: Item("O2 Delivery Device(s)"),
    226512: Item("Admission Weight (Kg)", "kg"),
    221906: Item("Norepinephrine", "mg", "inputevents_mv"),
    225158: Item("NaCl 0.9%", "mL", "inputevents_mv"),
    226559: Item("Foley", "mL", "outputevents"),
    225792: Item("Invasive Ventilation", None, "procedureevents_mv"),
    227194: Item("Extubation", None, "procedureevents_mv"),
}
ITEMS: dict[int, Item] = {**CAREVUE, **METAVISION}

PRESSURES = ("sbp", "dbp", "mbp")
PRESSURE_ITEMS: dict[tuple[str, bool], tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    ("invasive", False): ((51, 8368, 52), (6701, 8555, 6702)),
    ("invasive", True): ((220050, 220051, 220052), (225309, 225310, 225312)),
    ("cuff", False): ((455, 8441, 456), (442, 8440, 443)),
    ("cuff", True): ((220179, 220180, 220181), (220179, 220180, 220181)),
}
"""By kind and whether it is MetaVision: the usual items of SBP, DBP and MBP, and the rarer ones."""


def write_items(writer: TableWriter) -> None:
    """Write D_ITEMS with the items that occur, sorted by id."""
    ids = sorted(ITEMS)
    writer.write(
        "D_ITEMS",
        {
            "ITEMID": np.array(ids),
            "LABEL": [ITEMS[item].label for item in ids],
            "DBSOURCE": ["metavision" if item in METAVISION else "carevue" for item in ids],
            "LINKSTO": [ITEMS[item].table for item in ids],
            "UNITNAME": [ITEMS[item].unit if item in METAVISION else None for item in ids],
        },
    )
