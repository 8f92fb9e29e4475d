from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.data.cohort_writer import Cohort
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from simulation.cohorts.meds.codes import read_codes
from simulation.cohorts.meds.cohort import MedsSettings, meds_cohort
from simulation.cohorts.mimic4.care_units import SITE_OF_UNIT
from tests.simulation.cohorts.meds.events import (
    HEART_RATE,
    Event,
    after,
    rates,
    stay,
    write_data,
    write_shard,
)

TSICU = "Trauma SICU (TSICU)"

CODES = """
[stays]
admission = ["IN"]
discharge = ["OUT"]
[sites]
codes = ["HOSPITAL//*"]
[sites.names]
"St. Mary" = "mary"
[[vitals.spo2]]
codes = ["SPO2"]
unit = "fraction"
[[vitals.temperature_c]]
codes = ["TEMP//*//F", "T[F]"]
unit = "degF"
low = 90
[[vitals.temperature_c]]
codes = ["TEMP//*//C"]
unit = "degC"
"""


def cohort_of(place: Path, codes: str | None = None, min_hours: int = 0) -> Cohort:
    if codes is None:
        return meds_cohort(place, read_codes(), MedsSettings(min_hours=min_hours))
    path = place.parent / "codes.toml"
    path.write_text(codes)
    return meds_cohort(place, read_codes(path), MedsSettings(min_hours=min_hours))


def hours(cohort: Cohort, vital: str = "heart_rate") -> dict[str, list[int]]:
    """The steps with a vital sign, by stay."""
    rows = pd.concat(cohort.sites.values())
    measured = rows[rows[vital].notna()]
    return {str(name): part["step"].tolist() for name, part in measured.groupby("stay_id")}


def counts(cohort: Cohort) -> dict[str, int]:
    return {step.label: step.total for step in cohort.flow.steps}


# --- stays and sites ------------------------------------------------------------------------------


def test_a_stay_lasts_from_admission_to_discharge(tmp_path: Path) -> None:
    events = [
        *stay(1, 0, 10),
        *stay(1, 10, 20),  # begins as the first ends
        *stay(1, 100, 110)[:1],  # without a discharge: ends as the next begins
        *stay(1, 120, 130),
        *stay(2, 0, 10)[:1],  # without any end
    ]
    events += [
        (subject, after(hour + 0.5), HEART_RATE, 80.0)
        for subject in (1, 2)
        for hour in (-1, 0, 9, 10, 19, 20, 105, 115, 120)
    ]
    cohort = cohort_of(write_data(tmp_path / "meds", events))
    assert hours(cohort) == {"1-1": [0, 9], "1-2": [0, 9], "1-3": [5, 15], "1-4": [0]}
    assert counts(cohort)["stays in the source"] == 5
    assert counts(cohort)["with an end"] == 4
    assert cohort.dropped["outside every kept stay"] == 2 + 9


def test_sites_are_care_units_and_a_patient_is_in_one(tmp_path: Path) -> None:
    events = [*stay(1), *rates(1), *stay(1, 50, 80, TSICU), *rates(1, 50)]
    for number, unit in enumerate(SITE_OF_UNIT, start=2):
        events += [*stay(number, unit=unit), *rates(number)]
    cohort = cohort_of(write_data(tmp_path / "meds", events))
    assert sorted(cohort.sites) == sorted(SITE_OF_UNIT.values())
    assert "1-2" not in set(cohort.sites["tsicu"]["stay_id"])


def test_any_code_may_be_the_site(tmp_path: Path) -> None:
    events: list[Event] = []
    for subject in range(1, 6):
        events += [(subject, after(0), "IN", None), (subject, after(20), "OUT", None)]
        events += [(subject, after(1), "SPO2", 0.95)]
    events += [
        (1, None, "HOSPITAL//St. Mary", None),  # static
        (2, after(-90), "HOSPITAL//St. Mary", None),
        (2, after(-9), "HOSPITAL//North East", None),  # the last one before the stay
        (2, after(9), "HOSPITAL//St. Mary", None),
        (3, after(0), "HOSPITAL//North East", None),  # at its start
        (4, after(1), "HOSPITAL//St. Mary", None),  # too late
    ]
    cohort = cohort_of(write_data(tmp_path / "meds", events), CODES)
    found = {site: sorted(set(rows["patient_id"])) for site, rows in cohort.sites.items()}
    assert found == {"mary": ["1"], "north-east": ["2", "3"]}
    assert counts(cohort)["with a site"] == 3


def test_short_stays_are_left_out(tmp_path: Path) -> None:
    events = [*stay(1), *rates(1, hours=11), *stay(2), *rates(2, hours=12)]
    cohort = cohort_of(write_data(tmp_path / "meds", events), min_hours=12)
    assert list(hours(cohort)) == ["2-1"]
    assert list(cohort.inputs) == ["0.parquet", "1.parquet"]


# --- patients -------------------------------------------------------------------------------------


def test_age_and_sex(tmp_path: Path) -> None:
    born = {1: "2100-06-10", 2: "2100-06-11", 3: "2140-01-01", 4: None}
    events: list[Event] = [(1, None, "GENDER//F", None), (2, after(-99), "GENDER//M", None)]
    for subject, birth in born.items():
        events += [*stay(subject), *rates(subject)]
        events += (
            [] if birth is None else [(subject, datetime.fromisoformat(birth), "MEDS_BIRTH", None)]
        )
    cohort = cohort_of(write_data(tmp_path / "meds", events))
    assert cohort.stays is not None
    facts = cohort.stays.set_index("stay_id")
    assert facts["age"].fillna(-1).to_dict() == {"1-1": 50, "2-1": 49, "4-1": -1}
    assert facts["sex"].to_dict() == {"1-1": "female", "2-1": "male", "4-1": ""}
    assert facts["icu_days"].tolist() == [2.0] * 3
    assert counts(cohort)["not known to be under 18 years old"] == 3


# --- vital signs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["numeric_value", "value"])
def test_a_file_alone_and_the_column_of_the_demo(tmp_path: Path, value: str) -> None:
    path = write_shard(tmp_path / "events.parquet", [*stay(1), *rates(1)], value)
    assert hours(cohort_of(path)) == {"1-1": list(range(24))}


def test_other_types_of_the_columns_are_read(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "plain.parquet", [*stay(1), *rates(1)])
    table = pq.read_table(path)
    others = {
        "text_value": pa.nulls(len(table), pa.large_string()),
        "CODE": table["code"].cast(pa.large_string()).dictionary_encode(),
        "numeric_value": table["numeric_value"].cast(pa.float64()),
        "Time": table["time"].cast(pa.timestamp("ns", "UTC")),
        "subject_id": table["subject_id"].cast(pa.int32()),
    }
    pq.write_table(pa.table(others), tmp_path / "others.parquet")
    pd.testing.assert_frame_equal(
        cohort_of(tmp_path / "others.parquet").sites["micu"], cohort_of(path).sites["micu"]
    )


def test_units_limits_and_literal_codes(tmp_path: Path) -> None:
    values: list[tuple[str, float | None]] = [
        ("SPO2", 0.97),
        ("SPO2", 97),
        ("TEMP//x//F", 98.6),
        ("TEMP//x//F", 89),
        ("TEMP//x//C", 38.0),
        ("T[F]", 98.6),
        ("TF", 98.6),
        ("TEMP//C", 38.0),
        ("SPO2", None),
    ]
    events: list[Event] = [
        (1, after(0), "IN", None),
        (1, after(20), "OUT", None),
        (1, None, "HOSPITAL//St. Mary", None),
        *((1, after(hour + 0.5), code, value) for hour, (code, value) in enumerate(values)),
    ]
    cohort = cohort_of(write_data(tmp_path / "meds", events), CODES)
    rows = cohort.sites["mary"].set_index("step")
    assert rows["spo2"].dropna().to_dict() == pytest.approx({0: 97.0})
    assert rows["temperature_c"].dropna().to_dict() == pytest.approx({2: 37.0, 4: 38.0, 5: 37.0})
    assert cohort.dropped == {
        "duplicate": 0,
        "no number": 1,
        "impossible value": 2,
        "outside every kept stay": 0,
    }


def test_a_code_of_two_vital_signs_is_refused(tmp_path: Path) -> None:
    codes = CODES + '[[vitals.sbp]]\ncodes = ["TEMP*"]\nunit = "mmHg"\n'
    events: list[Event] = [(1, after(0), "IN", None), (1, after(1), "TEMP//x//C", 38.0)]
    with pytest.raises(UsageError, match="'TEMP//x//C' is in the table of codes for sbp and temp"):
        cohort_of(write_data(tmp_path / "meds", events), codes)


# --- the demo -------------------------------------------------------------------------------------


def test_the_demo_gives_the_hours_of_mimic4(shared_data: Path) -> None:
    from simulation.cohorts.mimic4.cohort import Mimic4Settings, mimic4_cohort

    if not (shared_data / "mimic4-demo").is_dir():
        pytest.skip(f"MIMIC-IV's demo is not present in {shared_data}")
    theirs = mimic4_cohort(shared_data / "mimic4-demo", Mimic4Settings(sepsis="none"))
    ours = cohort_of(shared_data / "mimic4-demo-meds", min_hours=12)
    assert {site: len(rows) for site, rows in ours.sites.items()} == {
        site: len(rows) for site, rows in theirs.sites.items()
    }
    # Stays have other ids: the number of the patient's stay among the kept ones is in their place.
    pd.testing.assert_frame_equal(
        by_number(ours.sites.values()), by_number(theirs.sites.values()), atol=1e-4, rtol=0
    )
    assert ours.patients is not None
    assert theirs.patients is not None
    pd.testing.assert_frame_equal(ours.patients, theirs.patients)


def by_number(sites: Iterable[pd.DataFrame]) -> pd.DataFrame:
    rows = pd.concat(sites)
    ids = rows[["patient_id", "stay_id"]].drop_duplicates().sort_values(["patient_id", "stay_id"])
    rows = rows.merge(ids.assign(number=ids.groupby("patient_id").cumcount()))
    keys = ["patient_id", "number", "step"]
    return rows.set_index(keys).sort_index()[list(VITAL_NAMES)]
