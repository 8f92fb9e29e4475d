from __future__ import annotations

import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from common.data.cohort_folder import (
    read_characteristics,
    read_cohort_record,
    site_table_paths,
)
from common.data.cohort_writer import Cohort, write_cohort
from common.data.demographics import describe_patients, read_patients
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import read_site_table
from common.data.summary import sites_table
from common.data.vitals import VITAL_NAMES
from common.errors import CohortError, SiteTableError


def make_cohort(**changes: Any) -> Cohort:
    rows = pd.DataFrame({"patient_id": ["1", "1", "2"], "stay_id": ["11", "11", "21"]})
    rows = rows.assign(step=[0, 2, 1], **dict.fromkeys(VITAL_NAMES, 50.0))
    rows["temperature_c"] = 37.0
    values: dict[str, Any] = {
        "source": "made",
        "rule": "all",
        "step_minutes": 60,
        "parameters": {"min_hours": 1},
        "inputs": {"TABLE": {"sha256": "0", "bytes": 1}},
        "flow": ExclusionFlow(),
        "sites": {"micu": rows, "empty": rows.iloc[:0]},
    }
    return Cohort(**(values | changes))


def test_the_folder_holds_tables_and_their_record(tmp_path: Path) -> None:
    record = write_cohort(make_cohort(), tmp_path / "cohort")
    assert read_cohort_record(tmp_path / "cohort") == json.loads(json.dumps(record))
    assert list(site_table_paths(tmp_path / "cohort")) == ["micu"]
    table = read_site_table(site_table_paths(tmp_path / "cohort")["micu"])
    assert (table.info.site, table.info.source, table.info.cohort_rule) == ("micu", "made", "all")
    assert record["sites"]["micu"]["hours"] == 5.0
    assert record["sites"]["micu"]["observed"]["heart_rate"] == 0.6


def test_a_cohort_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    stays = pd.DataFrame({"patient_id": ["1", "2"], "age": [30, 50], "sex": "female"})
    write_cohort(make_cohort(patients=describe_patients(stays)), tmp_path / "cohort")
    held = list((tmp_path / "cohort").rglob("*"))
    assert {path.name for path in held} >= {"micu.parquet", "patients.parquet", "cohort.json"}
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in (tmp_path / "cohort", *held)}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_what_is_known_of_the_patients_lies_beside_the_tables(tmp_path: Path) -> None:
    stays = pd.DataFrame({"patient_id": ["1", "2", "3"], "age": [30, 50, 70], "sex": "female"})
    cohort = make_cohort(patients=describe_patients(stays))
    record = write_cohort(cohort, tmp_path / "cohort")
    patients = read_patients(tmp_path / "cohort")
    assert patients is not None
    assert patients["patient_id"].tolist() == ["1", "2"], "those who are in a table"
    digest = sha256((tmp_path / "cohort" / "patients.parquet").read_bytes()).hexdigest()
    assert record["patients"] == {"sha256": digest}
    table = read_site_table(site_table_paths(tmp_path / "cohort")["micu"])
    assert not {"age", "age_band", "sex"} & set(table.frame.columns)
    assert write_cohort(make_cohort(), tmp_path / "other")["patients"] is None


def test_table_1_lies_beside_the_tables(tmp_path: Path) -> None:
    stays = pd.DataFrame({"stay_id": ["11", "21", "31"], "age": [30.0, 50.0, 70.0], "died": True})
    record = write_cohort(make_cohort(stays=stays, sepsis="x"), tmp_path / "cohort")
    assert record["characteristics"]["overall"]["age"]["median"] == 40.0, "those in a table"
    assert read_characteristics(tmp_path / "cohort") == record["characteristics"]
    text = (tmp_path / "cohort" / "table1.csv").read_text()
    assert '"Age, years","40 [35, 45]"' in text
    assert "| Age, years | 40 [35, 45] |" in (tmp_path / "cohort" / "table1.md").read_text()
    # The tables that a model is trained on are the same with and without.
    write_cohort(make_cohort(), tmp_path / "other")
    mine, other = (tmp_path / name / "sites" / "micu.parquet" for name in ("cohort", "other"))
    assert mine.read_bytes() == other.read_bytes()


def test_an_older_cohort_is_replaced_and_has_no_table_1(tmp_path: Path) -> None:
    write_cohort(make_cohort(), tmp_path / "cohort")
    record = json.loads((tmp_path / "cohort" / "cohort.json").read_text())
    del record["characteristics"]
    for name in ("table1.csv", "table1.md"):
        (tmp_path / "cohort" / name).unlink()
    (tmp_path / "cohort" / "cohort.json").write_text(json.dumps(record))
    assert read_characteristics(tmp_path / "cohort") is None
    write_cohort(make_cohort(), tmp_path / "cohort", overwrite=True)
    assert read_characteristics(tmp_path / "cohort") is not None


def test_a_strangers_table_of_patients_is_not_replaced(tmp_path: Path) -> None:
    write_cohort(make_cohort(), tmp_path / "cohort")  # a source without age and sex
    theirs = tmp_path / "cohort" / "patients.parquet"
    theirs.write_bytes(b"somebody else's")
    with pytest.raises(CohortError, match=r"holds patients\.parquet beside its cohort"):
        write_cohort(make_cohort(), tmp_path / "cohort", overwrite=True)
    assert theirs.read_bytes() == b"somebody else's"


def test_the_same_cohort_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_cohort(make_cohort(), tmp_path / name)
    for file in ("cohort.json", "sites/micu.parquet"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_writing_the_same_cohort_again_is_allowed(tmp_path: Path) -> None:
    write_cohort(make_cohort(), tmp_path / "cohort")
    write_cohort(make_cohort(), tmp_path / "cohort")


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"min_hours": 2}},
        {"source": "other"},
        {"inputs": {"TABLE": {"sha256": "1", "bytes": 1}}},
    ],
)
def test_another_cohort_is_kept_unless_overwritten(tmp_path: Path, changes: dict[str, Any]) -> None:
    out = tmp_path / "cohort"
    write_cohort(make_cohort(), out)
    before = (out / "cohort.json").read_bytes()
    with pytest.raises(CohortError, match="--overwrite"):
        write_cohort(make_cohort(**changes), out)
    assert (out / "cohort.json").read_bytes() == before
    write_cohort(make_cohort(**changes), out, overwrite=True)
    assert (out / "cohort.json").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["cohort"]


def test_a_strangers_folder_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(CohortError, match="holds no cohort"):
        write_cohort(make_cohort(), tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_an_empty_cohort_names_the_rule_that_emptied_it(tmp_path: Path) -> None:
    flow = ExclusionFlow()
    nobody = pd.DataFrame({"unit": [], "patient_id": []})
    for label in ("sepsis by the rule explicit", "at least 12 h of vital signs"):
        flow.record(label, nobody)
    with pytest.raises(CohortError, match="no stay is left after the rule 'sepsis by the rule"):
        write_cohort(make_cohort(sites={}, flow=flow), tmp_path / "cohort")
    assert list(tmp_path.iterdir()) == []


def test_the_sites_table_shows_each_site(tmp_path: Path) -> None:
    write_cohort(make_cohort(), tmp_path / "cohort")
    text = io.StringIO()
    Console(file=text, width=80).print(sites_table(tmp_path / "cohort"))
    assert "micu" in text.getvalue()
    assert "…" not in text.getvalue()


def test_a_damaged_site_table_is_named(tmp_path: Path) -> None:
    write_cohort(make_cohort(), tmp_path / "cohort")
    (tmp_path / "cohort" / "sites" / "micu.parquet").write_bytes(b"PAR1")
    with pytest.raises(SiteTableError, match=r"micu\.parquet"):
        sites_table(tmp_path / "cohort")
