"""The ready mappings of OMOP, CLIF, MEDS and FHIR, unchanged, on one made-up hospital."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.cli import app
from common.console import run
from common.data.site_table import read_site_table
from common.data.vitals import VITAL_NAMES
from tests.client.ingest.formats.made_up import (
    HOURS,
    LEVELS,
    write_clif,
    write_fhir,
    write_meds,
    write_omop,
    write_omop_database,
)

MAPPINGS = Path(__file__).resolve().parents[4] / "deploy" / "site"


def ingested(folder: Path, name: str, **replaced: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the command in a mapping's head in a folder, perhaps with some text replaced."""
    text = (MAPPINGS / f"mapping.{name}.toml").read_text(encoding="utf-8")
    (command,) = re.findall(r"^#\s+python -m client (.+)$", text, re.MULTILINE)
    for old, new in replaced.items():
        assert old in text + command
        text, command = text.replace(old, new), command.replace(old, new)
    (folder / f"mapping.{name}.toml").write_text(text, encoding="utf-8")
    assert run(app, command.split()) == 0
    (path,) = (folder / "site-table" / "sites").glob("*.parquet")
    record = json.loads((folder / "site-table" / "ingest.json").read_text(encoding="utf-8"))
    return read_site_table(path).frame, record


def check(frame: pd.DataFrame, record: dict[str, Any]) -> None:
    # Two encounters of one patient are one patient.
    assert frame["patient_id"].nunique() == 2
    assert sorted(frame.groupby("patient_id")["stay_id"].nunique()) == [1, 2]
    assert frame["stay_id"].nunique() == 3
    assert len(frame) == 3 * HOURS
    assert re.fullmatch("[0-9a-f]{32}", frame["patient_id"].iloc[0])
    # Units are those of the site table, Fahrenheit converted.
    for vital in VITAL_NAMES:
        np.testing.assert_allclose(frame[vital], LEVELS[vital], rtol=0, atol=1e-4, err_msg=vital)
    # The measurement on the ward is counted, not used.
    counts = record["measurements"]
    assert counts["heart_rate"]["outside every stay"] == 1
    used = {vital: counts[vital]["used"] for vital in VITAL_NAMES}
    assert used == dict.fromkeys(VITAL_NAMES, 3 * HOURS)
    group = record["characteristics"]["sites"][record["site"]]
    assert group["sex"] == {"female": 1, "male": 1, "unknown": 0}
    assert group["age"]["median"] == 64.0  # 54 and 74


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_omop_files(folder: Path, suffix: str) -> None:
    write_omop(folder, suffix)
    frame, record = ingested(folder, "omop", **{".csv": suffix})
    check(frame, record)
    assert record["stay_table"] == {"read": 9, "left out by keep": 3}


@pytest.mark.parametrize("database", ["sqlite", "duckdb"])
def test_omop_database(folder: Path, database: str) -> None:
    name = "omop.db" if database == "sqlite" else "warehouse.duckdb"
    write_omop_database(folder / name)
    replaced = {'attach = "sqlite"': f'attach = "{database}"'}
    replaced |= {'database = "omop.db"': f'database = "{name}"'}
    check(*ingested(folder, "omop-sql", **replaced))


def test_clif(folder: Path) -> None:
    write_clif(folder)
    frame, record = ingested(folder, "clif")
    check(frame, record)
    assert record["characteristics"]["sites"]["clif-hospital"]["died"] == {"yes": 1, "known": 2}


def test_meds(folder: Path) -> None:
    write_meds(folder)
    check(*ingested(folder, "meds"))


def test_fhir(folder: Path) -> None:
    write_fhir(folder)
    frame, record = ingested(folder, "fhir")
    check(frame, record)
    # The one that was entered in error, and no second reading of SpO2's two codes.
    assert record["measurements"]["heart_rate"]["left out by a drop rule"] == 1
    assert record["measurements"]["spo2"] == {"read": 3 * HOURS, "used": 3 * HOURS}
    assert record["rows"]["of other codes"] == 0


def test_meds_of_mimic_4s_demo(folder: Path, shared_data: Path) -> None:
    source = shared_data / "mimic4-demo-meds"
    if not source.is_dir():
        pytest.skip("the demo of MIMIC-IV in MEDS is not there")
    (folder / "data").mkdir()
    for path in source.glob("*.parquet"):
        shutil.copy(path, folder / "data")
    replaced = {"code, numeric_value": "code, value", 'value = "numeric_value"': 'value = "value"'}
    frame, record = ingested(folder, "meds", **replaced)
    assert frame["patient_id"].nunique() > 90
    assert 110 <= frame["stay_id"].nunique() <= 140
    for vital in VITAL_NAMES:
        counts = record["measurements"][vital]
        assert counts["used"] > 0.8 * counts["read"], vital
    assert 36 < frame["temperature_c"].median() < 38
    assert record["stay_table"] == {"read": 140}
