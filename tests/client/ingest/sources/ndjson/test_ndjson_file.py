from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.open_file import open_file
from common.errors import SourceError, UsageError

LOINC = "http://loinc.org"


def rows_of(path: Path, codes: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    source = open_file(path, FileFormat(), codes=codes)
    table = pa.Table.from_batches(list(source.batches(list(source.types))))
    return list(table.to_pylist())


def write(path: Path, *objects: dict[str, Any]) -> Path:
    text = "".join(f"{json.dumps(one)}\n" for one in objects)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def observation(**body: Any) -> dict[str, Any]:
    started = {"resourceType": "Observation", "subject": {"reference": "Patient/p"}}
    at = {"effectiveDateTime": "2024-03-01T10:00:00Z"}
    code = {"code": {"coding": [{"system": LOINC, "code": "8867-4"}]}}
    return {**started, **at, **code, **body}


@pytest.mark.parametrize("name", ["t.ndjson", "t.ndjson.gz", "t.csv"])
def test_flat_objects_have_their_keys_as_columns(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, {"pid": 7, "value": 36.6}, {"pid": "a", "at": "2024-03-01"})
    assert rows_of(path) == [
        {"at": None, "pid": "7", "value": "36.6"},
        {"at": "2024-03-01", "pid": "a", "value": None},
    ]


@pytest.mark.parametrize(
    ("reference", "patient"),
    [
        ("Patient/17", "17"),
        ("https://hospital.example/fhir/Patient/17", "17"),
        ("Patient/17/_history/2", "17"),
        ("urn:uuid:0c1", "urn:uuid:0c1"),
        ("Group/17", "Group/17"),
    ],
)
def test_a_reference_is_the_id(tmp_path: Path, reference: str, patient: str) -> None:
    path = write(tmp_path / "o.ndjson", observation(subject={"reference": reference}))
    assert rows_of(path)[0]["patient"] == patient


@pytest.mark.parametrize(
    ("codings", "code"),
    [
        ([(LOINC, "8867-4")], "8867-4"),
        ([("urn:local", "HR"), (LOINC, "8867-4")], "8867-4"),
        # Of several codings the one that the mapping names.
        ([(LOINC, "8889-8"), (LOINC, "59408-5")], "59408-5"),
        ([(LOINC, "8867-4"), ("urn:local", "PULSE")], "urn:local|PULSE"),
        # Another system's code is never taken for LOINC's.
        ([("urn:local", "8867-4")], "urn:local|8867-4"),
        ([], "Heart rate"),
    ],
)
def test_the_code_is_that_of_the_mapping(
    tmp_path: Path, codings: list[tuple[str, str]], code: str
) -> None:
    coding = [{"system": system, "code": text} for system, text in codings]
    path = write(tmp_path / "o.ndjson", observation(code={"coding": coding, "text": "Heart rate"}))
    assert rows_of(path, ("59408-5", "urn:local|PULSE"))[0]["code"] == code


@pytest.mark.parametrize(
    ("body", "time", "value", "unit"),
    [
        (
            {"valueQuantity": {"value": 88.5, "code": "/min"}},
            "2024-03-01T10:00:00Z",
            "88.5",
            "/min",
        ),
        ({"valueQuantity": {"value": 88, "unit": "bpm"}}, "2024-03-01T10:00:00Z", "88", "bpm"),
        # What is below a limit is no number.
        ({"valueQuantity": {"value": 50, "comparator": "<"}}, "2024-03-01T10:00:00Z", "<50", None),
        ({"valueString": "high"}, "2024-03-01T10:00:00Z", "high", None),
        ({"dataAbsentReason": {"text": "unknown"}}, "2024-03-01T10:00:00Z", None, None),
        # A day is no time.
        ({"effectiveDateTime": "2024-03-01"}, None, None, None),
        (
            {
                "effectiveDateTime": None,
                "effectivePeriod": {"start": "2024-03-01T09:00:00+01:00"},
            },
            "2024-03-01T09:00:00+01:00",
            None,
            None,
        ),
    ],
)
def test_values_and_times(
    tmp_path: Path, body: dict[str, Any], time: str | None, value: str | None, unit: str | None
) -> None:
    (row,) = rows_of(write(tmp_path / "o.ndjson", observation(**body)))
    assert (row["time"], row["value"], row["unit"]) == (time, value, unit)


def test_a_panel_is_its_components(tmp_path: Path) -> None:
    parts = [
        {
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "valueQuantity": {"value": value, "code": "mm[Hg]"},
        }
        for code, value in (("8480-6", 120), ("8462-4", 80))
    ]
    panel = {"coding": [{"system": LOINC, "code": "85354-9"}]}
    rows = rows_of(write(tmp_path / "o.ndjson", observation(code=panel, component=parts)))
    assert [(row["code"], row["value"]) for row in rows] == [("8480-6", "120"), ("8462-4", "80")]


def test_an_encounter_is_a_row_per_location(tmp_path: Path) -> None:
    period = {"start": "2024-03-01T08:00:00Z", "end": "2024-03-03T08:00:00Z"}
    own = {"start": "2024-03-01T09:00:00Z", "end": "2024-03-02T09:00:00Z"}
    base = {"resourceType": "Encounter", "period": period, "class": {"code": "IMP"}}
    places = [
        {"location": {"reference": "Location/icu"}, "period": own},
        {"location": {"reference": "Location/ward"}},
    ]
    without = {**base, "id": "e2", "class": [{"coding": [{"code": "EMER"}]}]}
    rows = rows_of(write(tmp_path / "e.ndjson", {**base, "id": "e1", "location": places}, without))
    assert [(r["encounter"], r["class"], r["location"], r["start"], r["end"]) for r in rows] == [
        ("e1", "IMP", "icu", own["start"], own["end"]),
        ("e1", "IMP", "ward", period["start"], period["end"]),
        ("e2", "EMER", None, period["start"], period["end"]),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": 2, \n', "cannot be read as NDJSON: line"),
        ('{"resourceType": "Bundle", "entry": []}\n', "holds FHIR resources 'Bundle'"),
        ('{\n  "a": 1\n}\n', "is a JSON file"),
        ('[{"a": 1}]\n', "is a JSON file"),
    ],
)
def test_what_is_not_ndjson_is_one_line_without_its_content(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "secret.ndjson"
    path.write_text(text)
    with pytest.raises(SourceError) as caught:
        rows_of(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert '"a"' not in str(caught.value)


def test_a_damaged_line_further_down_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "o.ndjson", observation(), observation(code="secret"))
    with pytest.raises(SourceError, match="cannot be read as NDJSON") as caught:
        rows_of(path)
    assert "secret" not in str(caught.value)


def test_keys_that_differ_in_case_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.ndjson", {"pid": 1, "PID": 2})
    with pytest.raises((UsageError, SourceError)):
        rows_of(path)
