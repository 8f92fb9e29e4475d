from __future__ import annotations

from pathlib import Path

import pytest

from client.cli import app
from client.ingest.suggest.ready_mappings import ready_mapping
from common.console import run
from tests.client.ingest.formats.made_up import write_clif, write_fhir, write_omop

REPOSITORY = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("name", "table", "write"),
    [
        ("omop", "measurement.csv", write_omop),
        ("clif", "clif_vitals.parquet", write_clif),
        ("fhir", "Observation.ndjson", write_fhir),
    ],
)
def test_suggest_names_the_ready_mapping(
    tmp_path: Path, name: str, table: str, write: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(write)
    write(tmp_path)
    command = ["ingest", "--suggest", str(tmp_path / table), "--mapping", str(tmp_path / "m.toml")]
    assert run(app, command) == 0
    ready = f"deploy/site/mapping.{name}.toml"
    assert ready in capsys.readouterr().out.replace("\n", " ")
    assert (REPOSITORY / ready).is_file()


def test_other_columns_have_none() -> None:
    assert ready_mapping(["pid", "time", "code", "value"]) == ""
    assert ready_mapping(["SUBJECT_ID", "time", "code", "numeric_value", "text_value"]).endswith(
        "mapping.meds.toml"
    )
