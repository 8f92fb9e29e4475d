"""Tables as the example mappings of deploy/site describe them, small and made up."""

from __future__ import annotations

import csv
import gzip
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from common.data.vitals import VITAL_NAMES, VITALS

STAYS = 60
HOURS = 40
START = datetime(2023, 10, 20)  # noqa: DTZ001  (as a database without zones holds it)

Value = tuple[int, datetime, str, float]


def measurements() -> list[Value]:
    """Patient number, UTC time, vital and value, hourly, in the site table's units."""
    rng = np.random.default_rng(7)
    rows = []
    for patient in range(STAYS):
        admitted = START + timedelta(hours=7 * patient)
        for vital in VITALS:
            level = vital.clinical_offset + rng.normal(0, vital.scale_floor)
            for hour in range(HOURS):
                value = min(
                    level + rng.normal(0, vital.scale_floor), 100.0 if vital.name == "spo2" else 400
                )
                rows.append(
                    (patient, admitted + timedelta(hours=hour, minutes=7), vital.name, value)
                )
    return rows


def write_long(folder: Path) -> None:
    """observations.csv.gz, stays.csv and sepsis_stays.txt, for mapping.long.toml."""
    from zoneinfo import ZoneInfo

    codes = dict(
        zip(VITAL_NAMES, ("HR", "ART-S", "NBP-D", "NBP-M", "RR", "TEMP", "SPO2"), strict=True)
    )
    units = {"temperature_c": "degC", "spo2": "%", "heart_rate": "/min", "resp_rate": "/min"}
    with gzip.open(folder / "observations.csv.gz", "wt", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["MRN", "OBSERVED_AT", "PARAMETER", "RESULT", "UNIT", "STATUS"])
        for patient, at, vital, value in measurements():
            local = at.replace(tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo("Europe/London"))
            text = local.strftime("%d.%m.%Y %H:%M")
            unit = units.get(vital, "mmHg")
            out.writerow([f"{patient:04d}", text, codes[vital], f"{value:.1f}", unit, "F"])
        out.writerow(["0000", "21.10.2023 00:00", "HR", "<0.5", "/min", "X"])
    with (folder / "stays.csv").open("w", newline="", encoding="utf-8") as file:
        stays = csv.writer(file)
        stays.writerow(["MRN", "ENCOUNTER", "ADMITTED", "DISCHARGED"])
        for patient in range(STAYS):
            admitted = START + timedelta(hours=7 * patient)
            discharged = admitted + timedelta(hours=HOURS)
            stays.writerow([f"{patient:04d}", f"E{patient}", admitted, discharged])
    kept = "\n".join(f"E{patient}" for patient in range(STAYS - 5))
    (folder / "sepsis_stays.txt").write_text(f"# by chart review\n{kept}\n")


def write_wide(folder: Path) -> None:
    """flowsheet.csv, for mapping.wide.toml."""
    names = ("pulse", "sys_kpa", "dia_kpa", "map_kpa", "breaths", "temp_f", "sat")
    by_time: dict[tuple[int, datetime], dict[str, float]] = {}
    for patient, at, vital, value in measurements():
        by_time.setdefault((patient, at), {})[vital] = value
    with (folder / "flowsheet.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, delimiter=";")
        out.writerow(["patient", "visit_time", "septic", *names])
        for (patient, at), values in by_time.items():
            fields = []
            for vital in VITAL_NAMES:
                value = values[vital]
                if vital in ("sbp", "dbp", "mbp"):
                    value *= 0.133322387415
                elif vital == "temperature_c":
                    value = value * 1.8 + 32
                elif vital == "spo2":
                    value /= 100
                fields.append(f"{value:.3f}".replace(".", ","))
            septic = int(patient < STAYS - 5)
            out.writerow([4000 + patient, f"{at.isoformat()}+00:00", septic, *fields])


def write_sql(folder: Path) -> None:
    """warehouse.db, for mapping.sql.toml."""
    items = dict(zip(VITAL_NAMES, (211, 51, 8368, 52, 618, 676, 646), strict=True))
    database = sqlite3.connect(folder / "warehouse.db")
    database.execute(
        "CREATE TABLE encounter (patient_no, encounter_no, ward, admitted_at, discharged_at, "
        "is_septic)"
    )
    database.execute(
        "CREATE TABLE observation (patient_no, encounter_no, charted_at, item, value_number REAL)"
    )
    for patient in range(STAYS):
        admitted = START + timedelta(hours=7 * patient)
        bounds = (str(admitted), str(admitted + timedelta(hours=HOURS)))
        row = (patient, 900 + patient, "ICU", *bounds, int(patient < STAYS - 5))
        database.execute("INSERT INTO encounter VALUES (?, ?, ?, ?, ?, ?)", row)
    database.executemany(
        "INSERT INTO observation VALUES (?, ?, ?, ?, ?)",
        [(p, 900 + p, str(at), items[vital], value) for p, at, vital, value in measurements()],
    )
    database.commit()
    database.close()
