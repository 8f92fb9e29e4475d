from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from common.data.vitals import VITALS
from common.errors import UsageError
from common.forecasting.forecast_table import Forecasts
from common.forecasting.patient_forecaster import PatientForecaster
from common.reporting.patient_figure import plot_patient, save_figure
from tests.common.forecasting.wards import STEPS, TypicalValues, ward

BEGINNING = {".svg": b"<?xml", ".pdf": b"%PDF", ".png": b"\x89PNG"}


@pytest.fixture(scope="module")
def forecasts() -> Forecasts:
    rows = ward(2)
    rows["spo2"] = np.nan
    return PatientForecaster(TypicalValues(5.0)).forecast(rows)


@pytest.mark.parametrize("suffix", BEGINNING)
def test_a_figure_is_written_by_its_suffix_for_its_owner_alone(
    suffix: str, forecasts: Forecasts, tmp_path: Path
) -> None:
    path = tmp_path / f"p1{suffix.upper()}"
    path.write_bytes(b"old")
    path.chmod(0o644)
    for _ in range(2):
        save_figure(plot_patient(forecasts, "p1"), path)
        before, content = path.read_bytes(), path.read_bytes()
    assert content == before
    assert content.startswith(BEGINNING[suffix])
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_figure_names_patient_units_bands_and_reasons(
    forecasts: Forecasts, tmp_path: Path
) -> None:
    save_figure(plot_patient(forecasts, "p1"), tmp_path / "p1.svg")
    text = re.sub(r"<[^>]+>", "\n", (tmp_path / "p1.svg").read_text())
    for vital in VITALS:
        assert vital.label in text
        assert vital.unit in text
    for words in (
        "Patient p1",
        "forecast: median",
        "forecast: 80 % range",
        "forecast: 40 % range",
        "No forecast: no observed value in the last 48 h",
        "hours from the last row of the history",
    ):
        assert words in text
    assert "measured later" not in text


def test_what_was_measured_later_is_drawn_where_it_belongs(forecasts: Forecasts) -> None:
    whole = ward(2, STEPS + 10)
    whole["heart_rate"] = whole["step"] + 100.0 * (whole["patient_id"] == "p1")
    figure = plot_patient(forecasts, "p1", later=whole)
    points = figure.axes[0].lines[-1]
    np.testing.assert_array_equal(points.get_xdata(), np.arange(1, 7))
    np.testing.assert_array_equal(points.get_ydata(), 100 + STEPS + np.arange(6))
    assert "measured later" in [text.get_text() for text in figure.legends[0].get_texts()]
    history = figure.axes[0].lines[1]
    np.testing.assert_array_equal(history.get_xdata(), np.arange(-23, 1))


def test_the_bands_are_the_named_quantiles(forecasts: Forecasts) -> None:
    axes = plot_patient(forecasts, "p1").axes[0]
    widths = [band.get_paths()[0].get_extents().height for band in axes.collections]
    assert widths == pytest.approx([10.0, 5.0])  # 10 to 90 % and 30 to 70 % of -5 to 5 bpm


def test_a_wrong_name_is_refused(forecasts: Forecasts, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no patient 'p9'"):
        plot_patient(forecasts, "p9")
    figure = plot_patient(forecasts, "p0")
    with pytest.raises(UsageError, match=r"one of .svg, .pdf, .png, got 'p0.jpg'"):
        save_figure(figure, tmp_path / "p0.jpg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        save_figure(figure, tmp_path / "folder.svg")
