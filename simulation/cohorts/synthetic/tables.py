"""Items, columns and writer of the synthetic MIMIC-III tables.

Column names and order are those of the published schema, https://mimic.mit.edu/docs/iii/tables/;
item ids are those of MIT-LCP/mimic-code's concepts.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv


@dataclass(frozen=True)
class Item:
    """Row of D_ITEMS: label, unit in events, and the table of its events."""

    label: str
    unit: str | None = None
    table: str = "chartevents"


CAREVUE_ITEMS: dict[int, Item] = {
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
METAVISION_ITEMS: dict[int, Item] = {
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
CHARTED_ITEMS: dict[int, Item] = {**CAREVUE_ITEMS, **METAVISION_ITEMS}

PRESSURES = ("sbp", "dbp", "mbp")
PRESSURE_ITEMS: dict[tuple[str, bool], tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    ("invasive", False): ((51, 8368, 52), (6701, 8555, 6702)),
    ("invasive", True): ((220050, 220051, 220052), (225309, 225310, 225312)),
    ("cuff", False): ((455, 8441, 456), (442, 8440, 443)),
    ("cuff", True): ((220179, 220180, 220181), (220179, 220180, 220181)),
}
"""Items of SBP, DBP and MBP by kind and whether in MetaVision: the usual and the rarer ones."""


def write_items(writer: TableWriter) -> None:
    """Write D_ITEMS, sorted by id."""
    ids = sorted(CHARTED_ITEMS)
    writer.write(
        "D_ITEMS",
        {
            "ITEMID": np.array(ids),
            "LABEL": [CHARTED_ITEMS[item].label for item in ids],
            "DBSOURCE": ["metavision" if item in METAVISION_ITEMS else "carevue" for item in ids],
            "LINKSTO": [CHARTED_ITEMS[item].table for item in ids],
            "UNITNAME": [
                CHARTED_ITEMS[item].unit if item in METAVISION_ITEMS else None for item in ids
            ],
        },
    )


_KEYS = "SUBJECT_ID HADM_ID ICUSTAY_ID"
_MV_ORDER = "STORETIME CGID ORDERID LINKORDERID ORDERCATEGORYNAME SECONDARYORDERCATEGORYNAME"

MIMIC_COLUMNS: dict[str, tuple[str, ...]] = {
    table: ("ROW_ID", *columns.split())
    for table, columns in {
        "ADMISSIONS": "SUBJECT_ID HADM_ID ADMITTIME DISCHTIME DEATHTIME ADMISSION_TYPE "
        "ADMISSION_LOCATION DISCHARGE_LOCATION INSURANCE LANGUAGE RELIGION MARITAL_STATUS "
        "ETHNICITY EDREGTIME EDOUTTIME DIAGNOSIS HOSPITAL_EXPIRE_FLAG HAS_CHARTEVENTS_DATA",
        "CHARTEVENTS": f"{_KEYS} ITEMID CHARTTIME STORETIME CGID VALUE VALUENUM VALUEUOM WARNING "
        "ERROR RESULTSTATUS STOPPED",
        "DIAGNOSES_ICD": "SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE",
        "D_ITEMS": "ITEMID LABEL ABBREVIATION DBSOURCE LINKSTO CATEGORY UNITNAME PARAM_TYPE "
        "CONCEPTID",
        "ICUSTAYS": f"{_KEYS} DBSOURCE FIRST_CAREUNIT LAST_CAREUNIT FIRST_WARDID LAST_WARDID "
        "INTIME OUTTIME LOS",
        "INPUTEVENTS_CV": f"{_KEYS} CHARTTIME ITEMID AMOUNT AMOUNTUOM RATE RATEUOM STORETIME CGID "
        "ORDERID LINKORDERID STOPPED NEWBOTTLE ORIGINALAMOUNT ORIGINALAMOUNTUOM ORIGINALROUTE "
        "ORIGINALRATE ORIGINALRATEUOM ORIGINALSITE",
        "INPUTEVENTS_MV": f"{_KEYS} STARTTIME ENDTIME ITEMID AMOUNT AMOUNTUOM RATE RATEUOM "
        f"{_MV_ORDER} ORDERCOMPONENTTYPEDESCRIPTION ORDERCATEGORYDESCRIPTION PATIENTWEIGHT "
        "TOTALAMOUNT TOTALAMOUNTUOM ISOPENBAG CONTINUEINNEXTDEPT CANCELREASON STATUSDESCRIPTION "
        "COMMENTS_EDITEDBY COMMENTS_CANCELEDBY COMMENTS_DATE ORIGINALAMOUNT ORIGINALRATE",
        "LABEVENTS": "SUBJECT_ID HADM_ID ITEMID CHARTTIME VALUE VALUENUM VALUEUOM FLAG",
        "MICROBIOLOGYEVENTS": "SUBJECT_ID HADM_ID CHARTDATE CHARTTIME SPEC_ITEMID SPEC_TYPE_DESC "
        "ORG_ITEMID ORG_NAME ISOLATE_NUM AB_ITEMID AB_NAME DILUTION_TEXT DILUTION_COMPARISON "
        "DILUTION_VALUE INTERPRETATION",
        "OUTPUTEVENTS": f"{_KEYS} CHARTTIME ITEMID VALUE VALUEUOM STORETIME CGID STOPPED NEWBOTTLE "
        "ISERROR",
        "PATIENTS": "SUBJECT_ID GENDER DOB DOD DOD_HOSP DOD_SSN EXPIRE_FLAG",
        "PRESCRIPTIONS": f"{_KEYS} STARTDATE ENDDATE DRUG_TYPE DRUG DRUG_NAME_POE "
        "DRUG_NAME_GENERIC FORMULARY_DRUG_CD GSN NDC PROD_STRENGTH DOSE_VAL_RX DOSE_UNIT_RX "
        "FORM_VAL_DISP FORM_UNIT_DISP ROUTE",
        "PROCEDUREEVENTS_MV": f"{_KEYS} STARTTIME ENDTIME ITEMID VALUE VALUEUOM LOCATION "
        f"LOCATIONCATEGORY {_MV_ORDER} ORDERCATEGORYDESCRIPTION ISOPENBAG CONTINUEINNEXTDEPT "
        "CANCELREASON STATUSDESCRIPTION COMMENTS_EDITEDBY COMMENTS_CANCELEDBY COMMENTS_DATE",
        "PROCEDURES_ICD": "SUBJECT_ID HADM_ID SEQ_NUM ICD9_CODE",
    }.items()
}
"""Columns of each table, in order."""

# A fast level: the tables are read once.
_COMPRESSION_LEVEL = 1


class TableWriter:
    """Context manager that writes rows to .csv.gz files block by block; equal rows, equal bytes.

    Every table of `MIMIC_COLUMNS` gets its file and header, also without a row.

    Args:
        folder: an existing folder without tables.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._rows = dict.fromkeys(MIMIC_COLUMNS, 0)
        self._files = {table: self._open(folder, table) for table in MIMIC_COLUMNS}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _open(self, folder: Path, table: str) -> gzip.GzipFile:
        raw = self._stack.enter_context((folder / f"{table}.csv.gz").open("wb"))
        # No name and no time in the gzip header: the bytes would differ between runs.
        file = gzip.GzipFile("", "wb", _COMPRESSION_LEVEL, fileobj=raw, mtime=0)
        self._stack.enter_context(file)
        file.write((",".join(f'"{column}"' for column in MIMIC_COLUMNS[table]) + "\n").encode())
        return file

    def write(self, table: str, columns: Mapping[str, Any]) -> None:
        """Append rows.

        Args:
            table: a key of `MIMIC_COLUMNS`.
            columns: arrays of one length, or scalars for all rows; other columns are empty. ROW_ID
                is added. Times are timestamp arrays (see `timestamps`); NaN is an empty field.
        """
        arrays = {name: _array(values) for name, values in columns.items()}
        rows = max((len(array) for array in arrays.values() if array is not None), default=0)
        if not rows:
            return
        first = self._rows[table]
        self._rows[table] += rows
        arrays["ROW_ID"] = pa.array(np.arange(first + 1, first + rows + 1))
        for name, array in arrays.items():
            if array is None:
                arrays[name] = pa.repeat(pa.scalar(columns[name]), rows)
        block = pa.table(
            [arrays.get(name, pa.nulls(rows)) for name in MIMIC_COLUMNS[table]],
            list(MIMIC_COLUMNS[table]),
        )
        pa_csv.write_csv(block, self._files[table], pa_csv.WriteOptions(include_header=False))


def timestamps(seconds: Any, missing: Any = None) -> pa.Array:
    """Return a column of times.

    Args:
        seconds: integers, [N]; negative ones are dates before 1970.
        missing: booleans, [N], true = empty field.

    Returns:
        A timestamp array without time zone, in whole seconds, [N].
    """
    return pa.array(np.asarray(seconds, dtype=np.int64), mask=missing).cast(pa.timestamp("s"))


def dates(seconds: Any, missing: Any = None) -> pa.Array:
    """Return a column of dates from seconds since 1970, at midnight as in MIMIC-III."""
    seconds = np.asarray(seconds, dtype=np.int64)
    return timestamps(seconds - seconds % 86_400, missing)


def _array(values: Any) -> pa.Array | None:
    """Return an Arrow array, or None for a scalar."""
    if isinstance(values, (str, int, float)):
        return None
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    return pa.array(np.asarray(values), from_pandas=True)
