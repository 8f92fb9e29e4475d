from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from common.data.cohort_folder import INGEST_FILE, cohort_line, read_cohort_record, read_provenance
from common.errors import CohortError

STEP = {"label": "adults", "stays": 3, "excluded": 1, "patients": 2, "stays_per_unit": {"micu": 3}}


def written(folder: Path, record: Any, name: str = "cohort.json") -> Path:
    (folder / name).write_text(json.dumps(record))
    return folder


def test_the_provenance_of_a_cohort(tiny_cohort: Path) -> None:
    record = read_provenance(tiny_cohort)
    assert record is not None
    assert (record["source"], record["rule"]) == ("synthetic", "random walks")
    assert record["parameters"] == {"seed": 0, "units": ["ccu", "micu", "sicu"]}
    assert record["inputs"] == {"WALKS": "0f" * 32}
    assert [step["excluded"] for step in record["flow"]] == [0, 8]


def test_a_hospital_s_own_record_gives_no_name_of_a_file(tmp_path: Path) -> None:
    inputs = [{"file": "/home/jane/export.csv", "sha256": "ab"}, {"query": "SELECT secret"}]
    folder = written(tmp_path, {"inputs": inputs, "flow": [STEP], "site": "x"}, "ingest.json")
    record = read_provenance(folder)
    assert record is not None
    assert record["inputs"] == {"1": "ab"}
    assert record["flow"] == [STEP]
    assert "jane" not in json.dumps(record)
    assert "secret" not in json.dumps(record)


def test_a_table_or_a_folder_without_a_record_has_no_provenance(
    tmp_path: Path, tiny_cohort: Path
) -> None:
    assert read_provenance(tmp_path) is None
    assert read_provenance(tiny_cohort / "sites" / "micu.parquet") is None


@pytest.mark.parametrize(
    "record",
    [[], {"flow": [{}]}, {"flow": [{**STEP, "stays": "many"}]}, {"flow": 7}, {"inputs": 7}],
)
def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path, record: Any) -> None:
    with pytest.raises(
        CohortError, match=r"cohort\.json cannot be read: .* prepare the cohort"
    ) as e:
        read_provenance(written(tmp_path, record))
    assert "\n" not in str(e.value)


def test_text_that_is_not_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cohort.json").write_text("{half")
    with pytest.raises(CohortError, match="cannot be read"):
        read_provenance(tmp_path)


@pytest.mark.parametrize("name", ["cohort.json", INGEST_FILE])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "holds no cohort; make one with"),
        ('{"schema_version": 99}', "schema version 99"),
        ("{half", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "cannot be read"),
    ],
)
def test_a_record_that_is_not_of_this_release_is_refused(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(CohortError, match=message):
        read_cohort_record(tmp_path, name)


def test_a_line_says_which_cohort_and_why(tiny_cohort: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_cohort, tmp_path / "cohort")
    record = json.loads((tiny_cohort / "cohort.json").read_text())
    record["sites"] = {site: {"patients": 700} for site in record["sites"]}
    (tmp_path / "cohort" / "cohort.json").write_text(json.dumps(record))
    said = cohort_line(tmp_path / "cohort", "named")
    assert said == f"cohort: {tmp_path}/cohort (synthetic, 3 sites, 2,100 patients), named"
    (tmp_path / "cohort" / "cohort.json").write_text("[")
    assert cohort_line(tmp_path / "cohort", "named").endswith("/cohort (3 sites), named")
