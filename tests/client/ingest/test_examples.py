"""The example mappings, and every command of the how-to page, run unchanged."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from client.cli import app
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.mapping.vital_sections import VitalTable
from common.config.error_line import fields_by_key
from common.config.strict_model import StrictModel
from common.console import run
from common.data.site_table import read_site_table
from common.data.vitals import VITAL_NAMES
from tests.client.ingest.example_tables import HOURS, STAYS, write_long, write_sql, write_wide

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / "deploy" / "site"
PAGE = REPOSITORY / "docs" / "how-to" / "ingest.md"


@pytest.fixture
def hospital(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the tables that the examples describe, and the examples themselves."""
    folder = tmp_path / "hospital"
    folder.mkdir()
    write_long(folder)
    write_wide(folder)
    write_sql(folder)
    for path in EXAMPLES.glob("mapping.*.toml"):
        shutil.copy(path, folder)
    shutil.copytree(EXAMPLES, folder / "deploy" / "site")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("shape", ["long", "wide", "sql"])
def test_an_example_runs_by_the_command_in_its_head(
    hospital: Path, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (EXAMPLES / f"mapping.{shape}.toml").read_text(encoding="utf-8")
    (command,) = re.findall(r"^#\s+python -m client (.+)$", text, re.MULTILINE)
    assert run(app, command.split()) == 0
    printed = capsys.readouterr().out
    assert "Stays left after each rule" in printed
    (path,) = (hospital / "site-table" / "sites").glob("*.parquet")
    frame = read_site_table(path).frame
    assert frame["stay_id"].nunique() == STAYS - 5
    assert len(frame) == (STAYS - 5) * HOURS
    # An hour comes twice in the night of 29 October, which the local times of the first one lose.
    lost = 2 / HOURS / (STAYS - 5) * 6 if shape == "long" else 0
    for vital in VITAL_NAMES:
        assert frame[vital].isna().mean() <= lost
    assert re.fullmatch("[0-9a-f]{32}", frame["patient_id"].iloc[0])


def test_the_three_shapes_of_one_hospital_agree(hospital: Path) -> None:
    frames = []
    for shape in ("wide", "sql"):
        text = (EXAMPLES / f"mapping.{shape}.toml").read_text(encoding="utf-8")
        (command,) = re.findall(r"^#\s+python -m client (.+)$", text, re.MULTILINE)
        out = f"out-{shape}"
        assert run(app, command.replace("site-table", out).split()) == 0
        (path,) = (hospital / out / "sites").glob("*.parquet")
        frame = read_site_table(path).frame
        frames.append(frame.groupby("stay_id")[list(VITAL_NAMES)].mean().sort_values("heart_rate"))
    assert abs(frames[0].to_numpy() - frames[1].to_numpy()).max() < 0.01


def test_every_command_of_the_page_runs(hospital: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(
        r"^```(\w*)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    assert len(lines) >= 5
    for line in lines:
        program, *arguments = line.split()
        if program == "cp":
            shutil.copy(*arguments)
        else:
            assert line.startswith("python -m client ")
            assert run(app, arguments[2:]) == 0, capsys.readouterr().err


def test_the_page_names_every_key() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for key, field in fields_by_key(SiteMapping).items():
        assert f"`{key}`" in page or f"`[{key}]`" in page or f"`[{key}." in page, key
        section = field.annotation
        if isinstance(section, type) and issubclass(section, StrictModel):
            check_keys(page, section)
    check_keys(page, VitalTable)


def check_keys(page: str, section: type[StrictModel]) -> None:
    for key in fields_by_key(section):
        assert f"`{key}`" in page or f"`{key} =" in page, f"{section.__name__}: {key}"
