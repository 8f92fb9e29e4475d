"""A folder of small made-up MIMIC-IV tables."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

HEADERS = {
    "hosp/patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "hosp/admissions": (
        "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,discharge_location,race"
    ),
    "hosp/diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "hosp/procedures_icd": "subject_id,hadm_id,seq_num,chartdate,icd_code,icd_version",
    "icu/icustays": ("subject_id,hadm_id,stay_id,first_careunit,last_careunit,intime,outtime,los"),
    # As of v2.2; before, there was no caregiver_id.
    "icu/chartevents": (
        "subject_id,hadm_id,stay_id,caregiver_id,charttime,storetime,itemid,value,valuenum,"
        "valueuom,warning"
    ),
}
MICU = "Medical Intensive Care Unit (MICU)"
START, END = "2150-06-10 00:30:00", "2150-06-12 00:00:00"

Row = Sequence[object]


class Hospital:
    """Rows of the tables; stay and admission of patient n are 100 + n and 10 + n."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in HEADERS}

    def patient(
        self,
        n: int,
        *,
        unit: str = MICU,
        age: int = 50,
        anchor_year: int = 2150,
        gender: str = "F",
        charted: bool = True,
    ) -> None:
        """Add a patient with one stay, and by default a heart rate an hour for 24 hours."""
        self.rows["hosp/patients"].append((n, gender, age, anchor_year, "2011 - 2013", ""))
        self.rows["hosp/admissions"].append(
            (n, 10 + n, "2150-06-09 10:00:00", "2150-06-14 00:00:00", "", "URGENT", "HOME", "")
        )
        self.stay(n, 100 + n, unit, START, END)
        for hour in range(24 if charted else 0):
            self.chart(n, 220045, f"2150-06-10 {hour:02}:45:00", 80)

    def stay(self, n: int, stay: int, unit: str, start: str, end: str) -> None:
        self.rows["icu/icustays"].append((n, 10 + n, stay, unit, unit, start, end, 1.5))

    def chart(self, n: int, item: int, time: str, value: object) -> None:
        self.rows["icu/chartevents"].append(
            (n, 10 + n, 100 + n, "", time, time, item, value, value, "", 0)
        )

    def diagnose(self, n: int, code: str, version: int) -> None:
        self.rows["hosp/diagnoses_icd"].append((n, 10 + n, 1, code, version))

    def treat(self, n: int, code: str, version: int) -> None:
        self.rows["hosp/procedures_icd"].append((n, 10 + n, 1, "2150-06-10", code, version))

    def write(self, folder: Path, without: Sequence[str] = ()) -> Path:
        """Write the tables, without some of their columns."""
        for table, header in HEADERS.items():
            names = header.split(",")
            kept = [index for index, name in enumerate(names) if name not in without]
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            lines.writerows([[row[index] for index in kept] for row in (names, *self.rows[table])])
            path = folder / f"{table}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
        return folder
