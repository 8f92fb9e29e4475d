"""One small made-up hospital, written as OMOP, CLIF, MEDS and FHIR.

p1 has two encounters, p2 one; the temperatures of p2 are charted in Fahrenheit where a format has
that. e1 goes on to a ward, where one heart rate is measured.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from common.data.vitals import VITAL_NAMES

HOURS = 14
LEVELS = dict(zip(VITAL_NAMES, (80.0, 120.0, 70.0, 90.0, 16.0, 37.0, 97.0), strict=True))
ENCOUNTERS = {  # number: patient, admission (UTC)
    1: (1, datetime(2024, 3, 1)),  # noqa: DTZ001
    2: (1, datetime(2024, 3, 10)),  # noqa: DTZ001
    3: (2, datetime(2024, 3, 2)),  # noqa: DTZ001
}
WARD = (1, ENCOUNTERS[1][1] + timedelta(hours=16), "heart_rate", 55.0)
PEOPLE = {1: ("female", 1970), 2: ("male", 1950)}

Row = Sequence[Any]


def measurements() -> Iterator[tuple[int, datetime, str, float]]:
    """Encounter, time, vital and value in the site table's unit."""
    for encounter, (_, start) in ENCOUNTERS.items():
        for vital, level in LEVELS.items():
            for hour in range(HOURS):
                yield encounter, start + timedelta(hours=hour, minutes=5), vital, level
    yield WARD


def fahrenheit(encounter: int, vital: str) -> bool:
    return vital == "temperature_c" and ENCOUNTERS[encounter][0] == 2


def beds() -> Iterator[tuple[int, str, datetime, datetime]]:
    """Encounter, place, from and until: two beds in the ICU, then the ward."""
    for encounter, (_, start) in ENCOUNTERS.items():
        half, end = start + timedelta(hours=6), start + timedelta(hours=HOURS)
        yield encounter, "icu", start, half
        yield encounter, "icu", half, end
        yield encounter, "ward", end, end + timedelta(hours=6)


def write_table(path: Path, header: Row, rows: list[Row]) -> None:
    if path.suffix == ".parquet":
        pd.DataFrame(rows, columns=list(header)).to_parquet(path, index=False)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


OMOP_CODES = dict(
    zip(
        VITAL_NAMES,
        (3027018, 3004249, 21492240, 3027598, 3024171, 3020891, 40762499),
        strict=True,
    )
)


def omop_tables() -> dict[str, tuple[Row, list[Row]]]:
    units = dict.fromkeys(("sbp", "dbp", "mbp"), 8876)
    units |= {"heart_rate": 8483, "resp_rate": 8541, "spo2": 8554, "temperature_c": 586323}
    rows: list[Row] = []
    for encounter, at, vital, value in measurements():
        is_f = fahrenheit(encounter, vital)
        shown = value * 1.8 + 32 if is_f else value
        unit = 9289 if is_f else units[vital]
        rows.append((ENCOUNTERS[encounter][0], OMOP_CODES[vital], str(at), shown, unit, encounter))
    header = "person_id measurement_concept_id measurement_datetime value_as_number unit_concept_id"
    stays = [
        (ENCOUNTERS[one][0], 10 * one + n, 32037 if place == "icu" else 9201, str(a), str(b), one)
        for n, (one, place, a, b) in enumerate(beds())
    ]
    stay_header = "person_id visit_detail_id visit_detail_concept_id visit_detail_start_datetime "
    stay_header += "visit_detail_end_datetime visit_occurrence_id"
    people = [(who, 8532 if sex == "female" else 8507, year) for who, (sex, year) in PEOPLE.items()]
    return {
        "measurement": ([*header.split(), "visit_occurrence_id"], rows),
        "visit_detail": (stay_header.split(), list(stays)),
        "person": (["person_id", "gender_concept_id", "year_of_birth"], list(people)),
    }


def write_omop(folder: Path, suffix: str = ".csv") -> None:
    for name, (header, rows) in omop_tables().items():
        write_table(folder / f"{name}{suffix}", header, rows)


def write_omop_database(path: Path) -> None:
    connection: Any = duckdb.connect(path) if path.suffix == ".duckdb" else sqlite3.connect(path)
    for name, (header, rows) in omop_tables().items():
        kinds = ["DOUBLE" if "value" in column else "BIGINT" for column in header]
        kinds = ["TIMESTAMP" if "time" in c else k for c, k in zip(header, kinds, strict=True)]
        columns = ", ".join(f"{c} {k}" for c, k in zip(header, kinds, strict=True))
        connection.execute(f"CREATE TABLE {name} ({columns})")
        places = ", ".join("?" * len(header))
        connection.executemany(f"INSERT INTO {name} VALUES ({places})", rows)
    connection.commit()
    connection.close()


def write_clif(folder: Path) -> None:
    names = ["heart_rate", "sbp", "dbp", "map", "respiratory_rate", "temp_c", "spo2"]
    codes = dict(zip(VITAL_NAMES, names, strict=True))
    rows: list[Row] = [
        (
            f"H{one}",
            pd.Timestamp(at, tz="UTC"),
            codes[vital],
            value * 1.8 + 32 if fahrenheit(one, vital) else value,
        )
        for one, at, vital, value in measurements()
    ]
    header = ["hospitalization_id", "recorded_dttm", "vital_category", "vital_value"]
    write_table(folder / "clif_vitals.parquet", header, rows)
    adt: list[Row] = [
        (f"H{one}", pd.Timestamp(a, tz="UTC"), pd.Timestamp(b, tz="UTC"), place, "medical_icu")
        for one, place, a, b in beds()
    ]
    header = ["hospitalization_id", "in_dttm", "out_dttm", "location_category", "location_type"]
    write_table(folder / "clif_adt.parquet", header, adt)
    stays: list[Row] = [
        (f"P{who}", f"H{one}", at.year - PEOPLE[who][1], "Expired" if one == 3 else "Home")
        for one, (who, at) in ENCOUNTERS.items()
    ]
    header = ["patient_id", "hospitalization_id", "age_at_admission", "discharge_category"]
    write_table(folder / "clif_hospitalization.parquet", header, stays)
    people: list[Row] = [(f"P{who}", sex.title()) for who, (sex, _) in PEOPLE.items()]
    write_table(folder / "clif_patient.parquet", ["patient_id", "sex_category"], people)


def write_meds(folder: Path) -> None:
    names = (
        "LAB//220045//bpm", "LAB//220050//mmHg", "LAB//220180//mmHg", "LAB//220052//mmHg",
        "LAB//220210//insp/min", "LAB//223762//°C", "LAB//220277//%",
    )  # fmt: skip
    codes = dict(zip(VITAL_NAMES, names, strict=True))
    events: list[Row] = []
    for one, at, vital, value in measurements():
        is_f = fahrenheit(one, vital)
        code = "LAB//223761//°F" if is_f else codes[vital]
        events.append((ENCOUNTERS[one][0], at, code, value * 1.8 + 32 if is_f else value))
    for one, place, came, left in beds():
        if place == "icu":
            who = ENCOUNTERS[one][0]
            events.append((who, came, "ICU_ADMISSION//Medical ICU", None))
            events.append((who, left, "ICU_DISCHARGE//Medical ICU", None))
    for who, (sex, year) in PEOPLE.items():
        events.append((who, None, f"GENDER//{sex[0].upper()}", None))
        events.append((who, datetime(year, 1, 1), "MEDS_BIRTH", None))  # noqa: DTZ001
    frame = pd.DataFrame(events, columns=["subject_id", "time", "code", "numeric_value"])
    frame = frame.sort_values(["subject_id", "time"], na_position="first")
    frame["numeric_value"] = frame["numeric_value"].astype("float32")
    frame["time"] = frame["time"].astype("datetime64[us]")
    for person, shard in ((1, folder / "data" / "train"), (2, folder / "data" / "held_out")):
        shard.mkdir(parents=True)
        rows = frame[frame["subject_id"] == person]
        rows.to_parquet(shard / "0.parquet", index=False)


def write_fhir(folder: Path) -> None:
    codes = dict(
        zip(
            VITAL_NAMES,
            ("8867-4", "8480-6", "8462-4", "8478-0", "9279-1", "8310-5", "2708-6"),
            strict=True,
        )
    )
    units = dict(zip(VITAL_NAMES, ("/min", *["mm[Hg]"] * 3, "/min", "Cel", "%"), strict=True))
    observations = []
    pressures: dict[tuple[int, datetime], list[dict[str, Any]]] = {}
    for number, (one, at, vital, value) in enumerate(measurements()):
        is_f = fahrenheit(one, vital)
        concept = {"coding": [{"system": "http://loinc.org", "code": codes[vital]}]}
        if vital == "spo2":
            concept["coding"].append({"system": "http://loinc.org", "code": "59408-5"})
        quantity = {
            "value": round(value * 1.8 + 32, 1) if is_f else value,
            "unit": "as charted",
            "system": "http://unitsofmeasure.org",
            "code": "[degF]" if is_f else units[vital],
        }
        measured = {"code": concept, "valueQuantity": quantity}
        if vital in ("sbp", "dbp"):
            pressures.setdefault((one, at), []).append(measured)
        else:
            observations.append(_observation(f"o{number}", one, at, measured))
    panel = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
    for (one, at), parts in pressures.items():
        body = {"code": panel, "component": parts}
        observations.append(_observation(f"bp{one}{at:%d%H}", one, at, body))
    wrong = _observation("x", 1, ENCOUNTERS[1][1], observations[0] | {"status": "entered-in-error"})
    _write_ndjson(folder / "Observation.ndjson", [*observations, wrong])
    encounters = []
    for one, (who, start) in ENCOUNTERS.items():
        places = [
            {
                "location": {"reference": f"Location/{place}{n}"},
                "period": {"start": _fhir_time(a), "end": _fhir_time(b)},
            }
            for n, (_, place, a, b) in enumerate(bed for bed in beds() if bed[0] == one)
        ]
        encounters.append(
            {
                "resourceType": "Encounter",
                "id": f"e{one}",
                "status": "finished",
                "class": {"code": "IMP"},
                "subject": {"reference": f"Patient/p{who}"},
                "period": {"start": _fhir_time(start)},
                "location": places,
            }
        )
    _write_ndjson(folder / "Encounter.ndjson", encounters)
    role = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    locations = [
        {
            "resourceType": "Location",
            "id": name,
            "name": name,
            "type": [{"coding": [{"system": role, "code": code}]}],
        }
        for name, code in (("icu0", "ICU"), ("icu1", "ICU"), ("ward2", "HU"))
    ]
    _write_ndjson(folder / "Location.ndjson", locations)
    people = [
        {"resourceType": "Patient", "id": f"p{who}", "gender": sex, "birthDate": f"{year}-01-01"}
        for who, (sex, year) in PEOPLE.items()
    ]
    _write_ndjson(folder / "Patient.ndjson", people)


def _observation(name: str, one: int, at: datetime, body: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "subject": {"reference": f"Patient/p{ENCOUNTERS[one][0]}"},
        "encounter": {"reference": f"Encounter/e{one}"},
        "effectiveDateTime": _fhir_time(at),
        **body,
    }


def _fhir_time(at: datetime) -> str:
    # An hour east of UTC, as a hospital in Berlin writes it.
    return f"{(at + timedelta(hours=1)).isoformat()}+01:00"


def _write_ndjson(path: Path, resources: list[dict[str, Any]]) -> None:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in resources), encoding="utf-8")
