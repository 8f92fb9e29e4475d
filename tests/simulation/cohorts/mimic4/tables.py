"""A folder of small made-up MIMIC-IV tables."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Mapping, Sequence
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
SEPSIS3_HEADERS = {
    # As of v2.2; before, there was no order_provider_id.
    "hosp/prescriptions": (
        "subject_id,hadm_id,pharmacy_id,order_provider_id,starttime,stoptime,drug_type,drug,route"
    ),
    "hosp/microbiologyevents": (
        "microevent_id,subject_id,hadm_id,micro_specimen_id,order_provider_id,chartdate,charttime,"
        "spec_type_desc,org_name"
    ),
    "hosp/labevents": (
        "labevent_id,subject_id,hadm_id,specimen_id,itemid,order_provider_id,charttime,value,"
        "valuenum,valueuom"
    ),
    "icu/inputevents": (
        "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,itemid,amount,rate,rateuom,"
        "patientweight,statusdescription"
    ),
    "icu/outputevents": "subject_id,hadm_id,stay_id,caregiver_id,charttime,itemid,value,valueuom",
    "icu/procedureevents": (
        "subject_id,hadm_id,stay_id,caregiver_id,starttime,endtime,itemid,value,statusdescription"
    ),
}
MICU = "Medical Intensive Care Unit (MICU)"
START, END = "2150-06-10 00:30:00", "2150-06-12 00:00:00"

Row = Sequence[object]


class Hospital:
    """Rows of the tables; stay and admission of patient n are 100 + n and 10 + n."""

    def __init__(self) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in HEADERS | SEPSIS3_HEADERS}

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

    def prescribe(self, n: int, start: object, drug: str = "Vancomycin", route: str = "IV") -> None:
        row = (n, 10 + n, 1, "", start, "2150-06-20 00:00:00", "MAIN", drug, route)
        self.rows["hosp/prescriptions"].append(row)

    def culture(self, n: int, date: object, time: object, admission: object = None) -> None:
        """Add a culture, by default of the patient's admission."""
        of = 10 + n if admission is None else admission
        row = (1, n, of, 1, "", date, time, "BLOOD CULTURE", "")
        self.rows["hosp/microbiologyevents"].append(row)

    def laboratory(self, n: int, item: int, time: object, value: object, sample: int = 1) -> None:
        number = "" if isinstance(value, str) else value
        row = (1, n, "", sample, item, "", time, value, number, "")
        self.rows["hosp/labevents"].append(row)

    def write(
        self, folder: Path, without: Sequence[str] = (), headers: Mapping[str, str] = HEADERS
    ) -> Path:
        """Write the tables that have a header, without some of their columns."""
        for table, header in headers.items():
            names = header.split(",")
            kept = [index for index, name in enumerate(names) if name not in without]
            text = io.StringIO()
            lines = csv.writer(text, lineterminator="\n")
            lines.writerows([[row[index] for index in kept] for row in (names, *self.rows[table])])
            path = folder / f"{table}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(text.getvalue().encode(), mtime=0))
        return folder
