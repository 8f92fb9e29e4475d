"""Encounters looked up in other files, offsets since an admission, and joined columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.ingest.mapping.site_mapping import SiteMapping
from common.data.site_table import read_site_table
from common.errors import FedvitalsError, SourceError, UsageError
from tests.client.ingest.hospital import long_mapping, run, write_rows

STAY = """table = "adt.csv"
patient = "person"
start = "came"
end = "left"
merge-hours = 1
keep = { ward = ["ICU"] }
joins = [{ table = "encounters.csv", key = "enc" }, { table = "people.csv", key = "person" }]
"""
BY_ENCOUNTER = {'patient = "pid"': 'encounter = "enc"'}
PATIENTS = '[patients]\nage = "years"\nsex = "gender"\nunit = "ward_name"\n'
ADT = [
    # Two beds of one stay, then the ward, then the ICU again, of another encounter.
    ("e1", "icu", "MICU", "2024-03-01 00:00", "2024-03-01 03:00"),
    ("e1", "icu", "SICU", "2024-03-01 03:30", "2024-03-01 06:00"),
    ("e1", "ward", "5A", "2024-03-01 06:00", "2024-03-01 12:00"),
    ("e2", "icu", "MICU", "2024-03-05 00:00", "2024-03-05 04:00"),
    ("e3", "icu", "MICU", "2024-03-01 00:00", "2024-03-01 04:00"),
    ("e9", "icu", "MICU", "2024-03-01 00:00", "2024-03-01 04:00"),
]
ENCOUNTERS = [("e1", "p1", "63"), ("e2", "p1", "63"), ("e3", "p2", "50"), ("e4", "p2", "50")]
PEOPLE = [("p1", "F"), ("p2", "M")]


def values(*rows: tuple[str, str]) -> list[Any]:
    return [("", encounter, at, "HR", "80", "") for encounter, at in rows]


def hospital(
    folder: Path,
    *,
    stay: str = STAY,
    adt: list[Any] | None = None,
    encounters: list[Any] | None = None,
    clock: str = 'zone = "UTC"',
) -> SiteMapping:
    write_rows(folder / "adt.csv", adt or ADT, ("enc", "ward", "ward_name", "came", "left"))
    write_rows(folder / "encounters.csv", encounters or ENCOUNTERS, ("enc", "person", "years"))
    write_rows(folder / "people.csv", PEOPLE, ("person", "gender"))
    replaced = {**BY_ENCOUNTER, 'zone = "UTC"': clock}
    return long_mapping(folder, stay=stay, more=PATIENTS, replaced=replaced)


def steps_of(out: Path) -> dict[tuple[str, str], list[int]]:
    frame = read_site_table(out / "sites" / "st-mary.parquet").frame
    seen = frame[frame["heart_rate"].notna()]
    groups = seen.groupby(["patient_id", "stay_id"])["step"]
    return {(str(key[0]), str(key[1])): steps.tolist() for key, steps in groups}


def test_two_encounters_of_a_patient_are_one_patient(tmp_path: Path) -> None:
    rows = values(
        ("e1", "2024-03-01 00:30"),
        ("e1", "2024-03-01 04:00"),  # in the second bed of the same stay
        ("e1", "2024-03-01 08:00"),  # on the ward
        ("e2", "2024-03-05 01:00"),
        ("e3", "2024-03-01 02:00"),
        ("e4", "2024-03-01 02:00"),  # a patient's, but without a stay
        ("e7", "2024-03-01 02:00"),  # in no file
        ("", "2024-03-01 02:00"),
    )
    record = run(hospital(tmp_path), [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {
        ("p1", "p1-1"): [0, 4],
        ("p1", "p1-2"): [1],
        ("p2", "p2-1"): [2],
    }
    assert record["measurements"]["heart_rate"] == {
        "read": 8,
        "no patient": 1,
        "unknown encounter": 1,
        "outside every stay": 2,
        "used": 4,
    }
    assert record["stay_table"] == {"read": 6, "without a patient": 1, "left out by keep": 1}
    assert [one["file"] for one in record["inputs"][1]["joined"]] == [
        "encounters.csv",
        "people.csv",
    ]
    group = record["characteristics"]["sites"]["st-mary"]
    assert group["patients"] == 2
    assert group["sex"] == {"female": 1, "male": 1, "unknown": 0}
    assert group["age"]["median"] == 56.5


def test_a_sibling_with_the_same_time_keeps_its_own_encounter(tmp_path: Path) -> None:
    # Two encounters that overlap, as an export with a wrong discharge has them.
    adt = [
        ("e1", "icu", "MICU", "2024-03-01 00:00", "2024-03-02 00:00"),
        ("e2", "icu", "MICU", "2024-03-01 10:00", "2024-03-02 00:00"),
    ]
    rows = values(("e1", "2024-03-01 12:00"), ("e2", "2024-03-01 11:00"))
    run(hospital(tmp_path, adt=adt), [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {("p1", "p1-1"): [12], ("p1", "p1-2"): [1]}


@pytest.mark.parametrize(
    ("unit", "offsets"),
    [("seconds", (5400, -60, 14399)), ("minutes", (90, -1, 239)), ("hours", (1.5, -0.5, 3.9))],
)
def test_offsets_count_from_the_admission_of_their_encounter(
    tmp_path: Path, unit: str, offsets: tuple[float, ...]
) -> None:
    clock = f'zone = "UTC"\nformat = "{unit}"'
    stay = STAY.replace("merge", 'time = { zone = "Europe/London" }\nmerge')
    adt = [row for row in ADT if row[0] in ("e2", "e3")]
    rows = values(*((name, str(offset)) for name in ("e2", "e3") for offset in offsets))
    mapping = hospital(tmp_path, stay=stay, adt=adt, clock=clock)
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {("p1", "p1-1"): [1, 3], ("p2", "p2-1"): [1, 3]}
    # A measurement before the admission is in no stay.
    assert record["measurements"]["heart_rate"]["outside every stay"] == 2
    assert "early" not in record["signs"]


def test_offsets_from_another_moment_than_the_stay(tmp_path: Path) -> None:
    encounters = [(*row, "2024-02-29 22:00") for row in ENCOUNTERS]
    clock = 'zone = "UTC"\nformat = "hours"'
    stay = STAY.replace("merge", 'since = "arrived"\ntime = { zone = "Europe/London" }\nmerge')
    rows = values(("e1", "1"), ("e1", "2"), ("e1", "7"), ("e1", "9"))
    mapping = hospital(tmp_path, stay=stay, clock=clock)
    write_rows(tmp_path / "encounters.csv", encounters, ("enc", "person", "years", "arrived"))
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {("p1", "p1-1"): [0, 5]}
    # Without `since` an encounter with two rows of admissions has no one moment.
    stay = stay.replace('since = "arrived"\n', "")
    with pytest.raises(SourceError, match=r"several came for 1 encounters.* since in"):
        run(hospital(tmp_path, stay=stay, clock=clock), [tmp_path / "t.csv"], tmp_path / "no")


def test_offsets_alone_make_stays_as_of_eicu(tmp_path: Path) -> None:
    stays = [("11", "u1", "600"), ("12", "u1", "600"), ("13", "u2", "")]
    write_rows(tmp_path / "patient.csv", stays, ("unitstay", "person", "left"))
    stay = 'table = "patient.csv"\nid = "unitstay"\nencounter = "unitstay"\n'
    stay += 'patient = "person"\nend = "left"\n'
    replaced = {**BY_ENCOUNTER, 'zone = "UTC"': 'zone = "UTC"\nformat = "minutes"'}
    mapping = long_mapping(tmp_path, stay=stay, replaced=replaced)
    rows = values(("11", "-5"), ("11", "0"), ("11", "61"), ("12", "59"), ("12", "601"), ("13", "0"))
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {
        ("u1", "11"): [0, 1],
        ("u1", "12"): [0],
        ("u2", "13"): [0],
    }
    assert record["measurements"]["heart_rate"]["outside every stay"] == 2
    # Stays that all begin at 0 do not overlap.
    assert record["signs"]["overlapping_stays"] == 0


def test_offsets_in_rows_with_the_stays_id(tmp_path: Path) -> None:
    mapping = long_mapping(tmp_path, replaced={'zone = "UTC"': 'zone = "UTC"\nformat = "minutes"'})
    rows = [("a", "1", at, "HR", "80", "") for at in ("-5", "70", "130")]
    record = run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {("a", "1"): [1, 2]}
    assert record["measurements"]["heart_rate"]["outside every stay"] == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"stay": STAY.replace('key = "enc"', 'key = "encounter"')},
            UsageError,
            "unknown column to look up in encounters.csv 'encounter'",
        ),
        (
            {"stay": STAY.replace('key = "enc"', 'key = "encounter", column = "enc"')},
            UsageError,
            "unknown column of encounters.csv 'encounter'",
        ),
        (
            {"stay": STAY.replace('"person"\nstart', '"persons"\nstart')},
            UsageError,
            "unknown column of adt.csv with encounters.csv with people.csv 'persons'",
        ),
        (
            {"stay": STAY.replace("people.csv", "nobody.csv")},
            SourceError,
            "there is no file",
        ),
        (
            {"encounters": [*ENCOUNTERS, ("e1", "p2", "63")]},
            SourceError,
            "encounters.csv has 1 values of enc in several rows that differ in person",
        ),
        (
            {"encounters": [("E-1", "p1", "63")]},
            SourceError,
            "none of 6 values of enc is in the column enc of encounters.csv",
        ),
        (
            {"stay": STAY.replace('["ICU"]', '["intensive"]')},
            SourceError,
            "no row has a value of [stay] keep in the column ward (it has 'icu', 'ward')",
        ),
    ],
)
def test_a_join_that_does_not_fit_is_one_line(
    tmp_path: Path, change: dict[str, Any], error: type[FedvitalsError], message: str
) -> None:
    mapping = hospital(tmp_path, **change)
    rows = values(("e1", "2024-03-01 00:30"))
    with pytest.raises(error) as caught:
        run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_an_encounter_of_two_patients_in_the_table_itself_is_refused(tmp_path: Path) -> None:
    stays = [("e1", "p1", "2024-03-01 00:00"), ("e1", "p2", "2024-03-02 00:00")]
    write_rows(tmp_path / "stays.csv", stays, ("enc", "person", "came"))
    stay = 'table = "stays.csv"\npatient = "person"\nstart = "came"\n'
    mapping = long_mapping(tmp_path, stay=stay, replaced=BY_ENCOUNTER)
    rows = values(("e1", "2024-03-01 00:30"))
    with pytest.raises(SourceError, match=r"stays\.csv: 1 encounters \(enc\) are of two patients"):
        run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")


def test_a_joined_row_that_repeats_is_no_second_one(tmp_path: Path) -> None:
    mapping = hospital(tmp_path, encounters=[*ENCOUNTERS, ENCOUNTERS[0]])
    rows = values(("e1", "2024-03-01 00:30"))
    run(mapping, [write_rows(tmp_path / "t.csv", rows)], tmp_path / "out")
    assert steps_of(tmp_path / "out") == {("p1", "p1-1"): [0]}


@pytest.mark.parametrize(
    ("stay", "replaced", "message"),
    [
        ('id = "enc"', BY_ENCOUNTER, "columns.encounter needs a table of stays"),
        ('table = "s.csv"\nid = "a"\nstart = "b"', BY_ENCOUNTER, "stay.patient is missing"),
        ('id = "enc"\nkeep = { a = "b" }', {}, "stay.keep is of a table of stays"),
        ('id = "enc"\njoins = [{ table = "a", key = "b" }]', {}, "joins are joined to a table"),
        (
            'table = "s.csv"\nid = "a"\nstart = "b"\nsince = "c"',
            {},
            "stay.since needs encounters in the rows",
        ),
        ('id = "enc"', {'patient = "pid"\n': ""}, "columns.patient is missing"),
        (
            'id = "enc"',
            {'patient = "pid"': 'patient = "pid"\nencounter = "enc"'},
            "columns.encounter does not go with patient",
        ),
        (
            'table = "s.csv"\nid = "a"\nstart = "b"\ntime = { zone = "Europe/London" }',
            {'[time]\nzone = "UTC"': '[time]\nzone = "UTC"\nformat = "hours"'},
            "a patient may have several",
        ),
    ],
)
def test_a_mapping_that_cannot_work_says_what_it_lacks(
    tmp_path: Path, stay: str, replaced: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        long_mapping(tmp_path, stay=stay, replaced=replaced)
    assert message in str(caught.value)
