from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from common.data.cohort_folder import read_cohort_record, read_provenance, site_table_paths
from common.data.cohort_writer import Cohort, write_cohort
from common.data.demographics import describe_patients, read_patients
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import read_site_table
from common.data.splits import split_of
from common.errors import CohortError
from simulation.cohorts.joint_cohort import JointFolder, sources_of_one_hospital


def cohort(
    source: str, *, patients: int = 4, step_minutes: int = 60, facts: bool = True, sha: str = "1"
) -> Cohort:
    """Make a cohort of two sites, whose ids are those of every other source too."""
    names = [str(number) for number in range(patients)]
    stays = pd.DataFrame(
        {
            "patient_id": names,
            "stay_id": names,
            "unit": ["a", "b"] * (patients // 2),
            "age": 30.0 + 10 * np.arange(patients) + (7 if source == "one" else 0),
            "sex": ["female", "male"] * (patients // 2),
        }
    )
    flow = ExclusionFlow()
    flow.record("ICU stays in the source", pd.concat([stays, stays.assign(unit="c")]))
    flow.record("adults", stays)
    rows = stays[["patient_id", "stay_id"]].merge(pd.DataFrame({"step": range(30)}), how="cross")
    rows["heart_rate"] = np.float32(80) + rows["step"].to_numpy(np.float32)
    of_unit = rows["stay_id"].map(stays.set_index("stay_id")["unit"])
    return Cohort(
        source=source,
        rule=f"rule of {source}",
        step_minutes=step_minutes,
        parameters={"step_minutes": step_minutes, "units": ("a", "b")},
        inputs={"TABLE": {"file": "t.csv", "bytes": 1, "sha256": sha}},
        flow=flow,
        sites={str(unit): group for unit, group in rows.groupby(of_unit)},
        dropped={"duplicate": patients},
        patients=describe_patients(stays) if facts else None,
        stays=stays if facts else None,
        sepsis="by label" if facts else "",
    )


def add(folder: Path, part: Cohort, *, overwrite: bool = False) -> dict[str, Any]:
    joint = JointFolder(folder, part.source, part.parameters, overwrite)
    joint.check()
    return write_cohort(joint.join(part), folder, overwrite=True)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_names_ids_rules_and_flows_of_two_sources_stay_apart(tmp_path: Path) -> None:
    add(tmp_path / "joint", cohort("one"))
    record = add(tmp_path / "joint", cohort("two", patients=6))

    paths = site_table_paths(tmp_path / "joint")
    assert list(paths) == ["one-a", "one-b", "two-a", "two-b"]
    table = read_site_table(paths["two-b"])
    assert (table.info.site, table.info.source) == ("two-b", "two")
    assert table.info.cohort_rule == "rule of two"
    assert table.frame["patient_id"].unique().tolist() == ["two:1", "two:3", "two:5"]
    assert set(table.frame["split"]) == {split_of(f"two:{name}") for name in "135"}
    patients = read_patients(tmp_path / "joint")
    assert patients is not None
    assert len(patients) == 10
    flow = [(step["label"], step["stays"], step["excluded"]) for step in record["flow"]]
    assert flow == [
        ("one: ICU stays in the source", 8, 0),
        ("one: adults", 4, 4),
        ("two: ICU stays in the source", 12, 0),
        ("two: adults", 6, 6),
    ]
    assert record["flow"][1]["stays_per_unit"] == {"one-a": 2, "one-b": 2}
    assert record["dropped_measurements"] == {"one: duplicate": 4, "two: duplicate": 6}
    provenance = read_provenance(tmp_path / "joint")
    assert provenance is not None
    assert provenance["source"] == "one + two"
    assert provenance["rule"] == "one: rule of one; two: rule of two"
    assert provenance["inputs"] == {"one/TABLE": "1", "two/TABLE": "1"}


def test_table_1_is_that_of_all_sources_together(tmp_path: Path) -> None:
    add(tmp_path / "joint", cohort("one"))
    record = add(tmp_path / "joint", cohort("two", patients=6))
    ages = [37, 47, 57, 67, 30, 40, 50, 60, 70, 80]
    age = record["characteristics"]["overall"]["age"]
    assert (age["known"], age["median"]) == (10, np.median(ages))
    assert record["characteristics"]["sepsis"] == "one: by label; two: by label"


def test_a_source_without_facts_joins_one_that_has_them(tmp_path: Path) -> None:
    add(tmp_path / "joint", cohort("one", facts=False))
    record = add(tmp_path / "joint", cohort("two"))
    assert record["characteristics"]["overall"]["age"]["known"] == 4
    again = add(tmp_path / "joint", cohort("three", facts=False))
    assert again["characteristics"]["overall"]["age"]["known"] == 4
    assert again["characteristics"]["overall"]["patients"] == 12


def test_the_order_of_the_sources_and_a_second_time_do_not_change_a_byte(tmp_path: Path) -> None:
    for folder, order in (
        ("x", ("one", "two")),
        ("y", ("two", "one")),
        ("z", ("two", "one", "two")),
    ):
        for source in order:
            add(tmp_path / folder, cohort(source))
    assert content(tmp_path / "x") == content(tmp_path / "y") == content(tmp_path / "z")


def test_what_would_be_lost_or_mixed_is_refused(tmp_path: Path) -> None:
    joint, single = tmp_path / "joint", tmp_path / "single"
    add(joint, cohort("one"))
    before = content(joint)
    write_cohort(cohort("one"), single)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.docx").write_text("")
    for folder, part, message in (
        (single, cohort("two"), "made without --into"),
        (tmp_path / "other", cohort("two"), "is not empty"),
        (joint, cohort("two", step_minutes=30), "steps of 60 minutes.*--step-minutes 60"),
        (joint, cohort("one", step_minutes=30), "with other settings.*--overwrite"),
        (joint, cohort("one", sha="2"), "from other inputs.*--overwrite"),
    ):
        with pytest.raises(CohortError, match=message):
            add(folder, part)
    assert content(joint) == before


def test_overwriting_replaces_one_source_and_keeps_the_other(tmp_path: Path) -> None:
    add(tmp_path / "joint", cohort("one"))
    add(tmp_path / "joint", cohort("two"))
    record = add(tmp_path / "joint", cohort("one", patients=6, sha="2"), overwrite=True)
    assert record["sites"]["one-a"]["patients"] == 3
    assert record["sites"]["two-a"]["patients"] == 2
    assert record["sources"]["one"]["inputs"]["TABLE"]["sha256"] == "2"
    assert read_cohort_record(tmp_path / "joint")["inputs"]["one/TABLE"]["sha256"] == "2"


@pytest.mark.parametrize("order", [("one", "two", "three"), ("three", "two", "one")])
def test_flags_of_every_type_are_counted_together(order: tuple[str, ...], tmp_path: Path) -> None:
    # As eICU, MIMIC and the challenges have them: with missing ones, without, and not at all.
    flags = {
        "one": pd.Series([True, False, None, True], dtype="boolean"),
        "two": pd.Series([True, False, False, False], dtype=bool),
        "three": None,
    }
    for source in order:
        part = cohort(source)
        if flags[source] is not None:
            assert part.stays is not None
            part.stays["died"] = flags[source]
        record = add(tmp_path / "joint", part)
    assert record["characteristics"]["overall"]["died"] == {"yes": 3, "known": 7}


@pytest.mark.parametrize(
    ("sites", "found"),
    [
        (["mimic4-micu", "mimic4-sicu", "eicu-hospital-73", "challenge-2019-b-micu"], []),
        (["mimic4-micu", "meds-micu"], ["mimic4", "meds"]),
        (["challenge-2012-ccu", "challenge-2019-a-micu"], ["challenge-2012", "challenge-2019-a"]),
    ],
)
def test_sources_that_can_have_the_same_persons_are_named(
    sites: list[str], found: list[str]
) -> None:
    assert sources_of_one_hospital(sites) == found
