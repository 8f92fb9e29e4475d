from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from client.cli import app
from common.console import run
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.vitals import VITALS
from common.forecasting import patient_forecaster
from common.forecasting.patient_forecaster import PatientForecaster
from tests.common.forecasting.wards import TypicalValues, ward


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of three patients; p1's SpO2 is seldom measured, and p2 has a short second stay."""
    rows = ward(3, 60)
    rows.loc[(rows["patient_id"] == "p1") & (rows["step"] % 10 > 0), "spo2"] = np.nan
    rows["stay_id"] = rows["patient_id"] + "-first"
    second = rows[(rows["patient_id"] == "p2") & (rows["step"] < 20)].assign(stay_id="p2-second")
    table = make_site_table(pd.concat([rows, second]), SiteTableInfo("a", "made", "all", 60))
    write_site_table(table, tmp_path / "site" / "sites" / "a.parquet")
    return tmp_path / "site"


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forecast typical values: the model is tested with the forecaster."""

    def load(*_: object, **__: object) -> PatientForecaster:
        return PatientForecaster(TypicalValues(10.0))

    monkeypatch.setattr(patient_forecaster, "load_forecaster", load)


def command(site: Path, *options: object) -> int:
    return run(app, ["forecast", str(site), "--adapter", "run", *map(str, options)])


def test_all_patients_are_written_with_their_reasons(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "forecasts.csv"
    assert command(site, "--out", out) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "Forecast: 27 of 28 series" in shown
    assert "No forecast: spo2: in 1 of 4 stays, e.g. 4 observed values in the last 48 h" in shown
    assert f"Written: {out}" in shown
    assert out.stat().st_mode & 0o777 == 0o600
    table = pd.read_csv(out)
    assert set(table["stay_id"]) == {"p0-first", "p1-first", "p2-first", "p2-second"}
    assert len(table) == 4 * len(VITALS) * 6
    refused = table["reason"].notna()
    assert (table["q50"].isna() == refused).all()
    assert table.loc[refused, ["patient_id", "vital"]].drop_duplicates().to_numpy().tolist() == [
        ["p1", "spo2"]
    ]


def test_one_patient_is_shown_and_drawn_beside_what_came_later(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "p1.svg"
    assert command(site, "--patient", "p1", "--at", 50, "--plot", plot) == 0
    shown = capsys.readouterr().out
    assert "Patient p1, stay p1-first" in shown
    assert "No forecast: spo2: 4 observed values" in shown
    for line in shown.replace(str(tmp_path), "").splitlines():
        assert len(line.rstrip()) <= 80
    assert "measured later" in plot.read_text()
    assert plot.stat().st_mode & 0o777 == 0o600
    assert command(site, "--patient", "p1", "--plot", plot) == 0
    assert "measured later" not in plot.read_text()


def test_of_several_stays_one_is_named(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The order of ids, mostly hashes, says nothing of the order in time.
    assert command(site, "--patient", "p2") == 2
    assert "name one with --stay: p2-first, p2-second" in capsys.readouterr().err
    assert command(site, "--patient", "p2", "--stay", "p2-first") == 0
    assert "Patient p2, stay p2-first" in capsys.readouterr().out
    assert command(site, "--at", 30) == 0
    assert "Left out, since they end before 30 h: 1 of the stays" in capsys.readouterr().out


WRONG = [
    (("--patient", "p9"), 2, "the table has no patient 'p9'"),
    (("--patient", "p1", "--stay", "s9"), 2, "patient 'p1' has no stay 's9'"),
    (("--at", "2.5"), 2, "--at takes hours from 1 to 60 in steps of 60 minutes, got 2.5"),
    (("--at", "nan"), 2, "--at takes hours"),
    (("--at", "61"), 2, "--at takes hours"),
    (("--plot", "a.svg"), 2, "name the patient with --patient"),
    (("--patient", "p1", "--plot", "a.jpg"), 2, "one of .svg, .pdf, .png"),
    (("--out", "site.parquet"), 2, "ends in .csv"),
    (("--out", "nowhere/a.csv"), 2, "there is no folder nowhere"),
    (("--out", "/proc/a.csv"), 2, "cannot be written"),
]


@pytest.mark.parametrize(("options", "code", "message"), WRONG, ids=[w[2] for w in WRONG])
def test_wrong_options_end_with_one_line_and_nothing_written(
    options: tuple[str, ...],
    code: int,
    message: str,
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(site, *options) == code
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.count("\n") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_table_of_something_else_is_not_overwritten(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before: a hospital's own file was replaced by the forecasts."""
    out = tmp_path / "patients.csv"
    out.write_text("patient_id,hour,heart_rate\n")
    assert command(site, "--out", str(out)) == 2
    assert "exists and is no table of forecasts" in capsys.readouterr().err
    assert out.read_text() == "patient_id,hour,heart_rate\n"
