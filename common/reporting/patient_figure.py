"""Figure of one patient: the history, the forecast and, where known, what was measured later.

It shows values of a patient and belongs to the site: files are written for their owner alone.
"""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from common.data.vitals import VITALS
from common.data.windows import FloatArray
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS
from common.files.atomic_io import write_private
from common.forecasting.forecast_table import Forecasts
from common.reporting.forecast_figure import ForecastColours, ForecastCurves, draw_forecast

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

FIGURE_SUFFIXES = (".svg", ".pdf", ".png")

_COLOURS = ForecastColours(history="#1c2126", forecast="#0b5f91", later="#000000")
_MUTED, _GRID = "#59626c", "#dcdedb"
_BANDS, _OPACITY = 2, 0.24
_WIDTH_INCHES, _PANEL_INCHES, _HEAD_INCHES = 4.0, 1.45, 0.95
_PNG_DPI = 200
_HEADING_COLUMNS = 40
_REASON_COLUMNS, _REASON_POINTS = 58, 10.5

# Sizes for a figure that is scaled to the width of a phone.
_STYLE: dict[RcKeyType, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedvitals-patient",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "text.parse_math": False,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
}


def plot_patient(
    forecasts: Forecasts,
    patient_id: str,
    *,
    stay_id: str | None = None,
    later: pd.DataFrame | None = None,
    history_steps: int | None = None,
) -> Figure:
    """Draw the history and the forecast of one stay, a panel for each vital sign.

    The bands hold 40 % and 80 % of the values, by the forecast. A vital sign that is refused has
    its history and the reason.

    Args:
        forecasts: the forecasts.
        patient_id: the patient.
        stay_id: one of the patient's stays; needed if the patient has several.
        later: a table as for `common.forecasting.patient_forecaster.PatientForecaster.forecast`,
            whose rows of this stay after the history are drawn beside the forecast; other rows
            are ignored.
        history_steps: steps of history to draw; by default four times the forecast's.

    Returns:
        A matplotlib figure; see `save_figure`.

    Raises:
        UsageError: there is no such patient or stay, or the patient has several stays.
    """
    # pyplot would keep state and look for a display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure as BlankFigure

    rows = forecasts.of_patient(patient_id, stay_id)
    keys = forecasts.keys.iloc[rows[0]]
    with rc_context(_STYLE):
        height = _HEAD_INCHES + _PANEL_INCHES * len(rows)
        figure = BlankFigure(figsize=(_WIDTH_INCHES, height), layout="constrained")
        panels = figure.subplots(len(rows), sharex=True, squeeze=False)[:, 0]
        known = False
        for axes, row in zip(panels, rows, strict=True):
            target = _later_values(forecasts, int(row), later)
            known |= bool(np.isfinite(target).any())
            _draw_panel(axes, forecasts, int(row), target, history_steps)
        panels[-1].set_xlabel("hours from the last row of the history")
        stay = f", stay {keys['stay_id']}" if "stay_id" in keys else ""
        heading = textwrap.fill(f"Patient {keys['patient_id']}{stay}", _HEADING_COLUMNS)
        handles, labels = _legend(known)
        figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=2,
            fontsize=8,
            title=heading,
            title_fontproperties={"size": 10.5, "weight": "bold"},
            alignment="left",
        )
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, PDF or PNG, by the suffix, for its owner alone (mode 0600).

    Raises:
        UsageError: another suffix, or the file cannot be written.
    """
    from matplotlib import rc_context

    check_figure_path(path)
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
    content = io.BytesIO()
    with rc_context(_STYLE):
        figure.savefig(
            content,
            format=path.suffix.lower().lstrip("."),
            dpi=_PNG_DPI,
            facecolor="white",
            metadata=metadata,
        )
    try:
        write_private(path, content.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror or error})") from error


def check_figure_path(path: Path) -> None:
    """Raise `UsageError` unless a figure can be written under this name."""
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise UsageError(
            f"a figure is written as one of {', '.join(FIGURE_SUFFIXES)}, got {path.name!r}"
        )


def _later_values(forecasts: Forecasts, row: int, later: pd.DataFrame | None) -> FloatArray:
    """Return what was measured in the forecast's steps, [H]; NaN = not known."""
    values = np.full(forecasts.quantiles.shape[1], np.nan, np.float32)
    name = VITALS[forecasts.vital[row]].name
    if later is None or name not in later:
        return values
    wanted = np.ones(len(later), bool)
    for key in forecasts.keys:
        if key in later:
            same = later[key].astype(str) == str(forecasts.keys[key].iloc[row])
            wanted &= same.to_numpy()
    step = later["step"].to_numpy(np.int64)[wanted] - forecasts.last_step[row] - 1
    ahead = (step >= 0) & (step < len(values))
    values[step[ahead]] = later[name].to_numpy(np.float32, na_value=np.nan)[wanted][ahead]
    return values


def _draw_panel(
    axes: Axes, forecasts: Forecasts, row: int, target: FloatArray, history_steps: int | None
) -> None:
    vital = VITALS[forecasts.vital[row]]
    quantiles = forecasts.quantiles[row]
    context = forecasts.context[row][-(history_steps or 4 * len(quantiles)) :]
    hours = forecasts.step_minutes / 60
    curves = ForecastCurves(
        past=hours * np.arange(1 - len(context), 1),
        context=context,
        ahead=hours * np.arange(1, len(quantiles) + 1),
        quantiles=quantiles,
        target=target,
    )
    draw_forecast(axes, curves, _COLOURS, bands=_BANDS, opacity=_OPACITY)
    axes.set_ylabel(vital.unit)
    if not (np.isfinite(context).any() or np.isfinite(target).any()):
        axes.set_yticks([])
    reason = forecasts.reasons[row]
    text = textwrap.fill(f"No forecast: {reason}", _REASON_COLUMNS) if reason else ""
    lines = text.count("\n") + bool(text)
    axes.set_title(vital.label, fontweight="bold", pad=4 + _REASON_POINTS * lines)
    axes.annotate(
        text, (0, 1), (0, 4), xycoords="axes fraction", textcoords="offset points", fontsize=8
    )


def _legend(known: bool) -> tuple[list[Artist], list[str]]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    # A narrow band lies on the wider one.
    inner = 1 - (1 - _OPACITY) ** 2
    widths = [LEVELS[-1 - low] - LEVELS[low] for low in (0, len(LEVELS) // 2 // _BANDS)]
    handles: list[Artist] = [
        Line2D([], [], color=_COLOURS.history, marker=".", linewidth=1, markersize=4),
        Line2D([], [], color=_COLOURS.forecast, linewidth=2),
        Patch(facecolor=_COLOURS.forecast, alpha=_OPACITY),
        Patch(facecolor=_COLOURS.forecast, alpha=inner),
    ]
    labels = [
        "measured",
        "forecast: median",
        *(f"forecast: {100 * width:.0f} % range" for width in widths),
    ]
    if known:
        handles.append(Line2D([], [], color=_COLOURS.later, marker="o", linewidth=0, markersize=4))
        labels.append("measured later")
    return handles, labels
