"""`python -m client forecast`: forecasts of a site's patients by a released adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.console import narrow_table, output_console, print_line
from common.errors import UsageError
from common.names import printable

if TYPE_CHECKING:
    import pandas as pd

    from common.forecasting.forecast_table import Forecasts

_Data = Annotated[
    Path, typer.Argument(metavar="TABLE", help="A folder made by `ingest`, or a site table.")
]
_AdapterFolder = Annotated[
    Path, typer.Option("--adapter", metavar="DIR", help="A released PEFT folder, or a run folder.")
]
_Patient = Annotated[
    str | None,
    typer.Option(metavar="ID", help="Forecast this patient only. [default: all patients]"),
]
_Stay = Annotated[
    str | None, typer.Option(metavar="ID", help="Forecast this stay only. [default: all stays]")
]
_At = Annotated[
    float | None,
    typer.Option(
        metavar="HOURS",
        help="Hours from the beginning of the stay to that of the forecast; what was measured "
        "afterwards is drawn beside it. [default: the end of the stay]",
    ),
]
_Plot = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Draw the patient's history and forecast: svg, pdf or png."),
]
_Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write all quantiles and reasons as a table: csv."),
]
_Backbone = Annotated[
    str | None,
    typer.Option(help="Name or folder of the backbone. [default: the adapter's]"),
]


def forecast(
    table: _Data,
    adapter: _AdapterFolder,
    patient: _Patient = None,
    stay: _Stay = None,
    at: _At = None,
    plot: _Plot = None,
    out: _Out = None,
    backbone: _Backbone = None,
) -> None:
    """Forecast patients of the site with a released adapter, and draw one of them.

    Where too little is observed the answer is the reason, not a number. Nothing is sent; files
    hold values of patients and are readable by their owner alone. Not for clinical use.
    """
    _check_files(plot, out, patient)
    with Console(stderr=True).status("loading"):
        from common.data.cohort_folder import single_site_table
        from common.data.site_table import read_site_table
        from common.forecasting.patient_forecaster import load_forecaster

        site = read_site_table(single_site_table(table))
        rows = _selected_rows(site.frame, patient, stay)
        history = _history(rows, at, site.info.step_minutes)
        forecaster = load_forecaster(
            adapter, backbone=backbone, step_minutes=site.info.step_minutes
        )
        forecasts = forecaster.forecast(history)
    if patient is not None:
        output_console().print(_patient_table(forecasts))
    _print_refusals(forecasts, patient)
    if out is not None:
        _write_csv(forecasts, out)
        print_line(f"Written: {out}")
    if plot is not None and patient is not None:
        from common.reporting.patient_figure import plot_patient, save_figure

        save_figure(plot_patient(forecasts, patient, later=rows), plot)
        print_line(f"Written: {plot}")
    if out is None and plot is None:
        print_line("Nothing written; give --out FILE.csv, or --patient ID --plot FILE.svg")


def _check_files(plot: Path | None, out: Path | None, patient: str | None) -> None:
    """Check the output files before anything is loaded."""
    from common.files.atomic_io import atomic_file
    from common.files.output_folder import check_output_file
    from common.reporting.patient_figure import check_figure_path

    if plot is not None:
        check_figure_path(plot)
        if patient is None:
            raise UsageError("--plot draws one patient; name the patient with --patient")
    if out is not None and out.suffix.lower() != ".csv":
        raise UsageError(f"--out takes a name that ends in .csv, got {out.name!r}")
    if out is not None:
        check_output_file(out, _is_forecast, kind="table of forecasts")
    for path in filter(None, (plot, out)):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the name of a file")
        if not path.parent.is_dir():
            raise UsageError(f"there is no folder {path.parent} to write {path.name} to")
        try:
            # By writing: this finds missing permissions and a read-only file system alike.
            probe = path.with_name(f".{path.name}.probe")
            with atomic_file(probe) as partial:
                partial.touch(0o600)
            probe.unlink()
        except OSError as error:
            raise UsageError(f"{path} cannot be written ({error.strerror or error})") from error


def _is_forecast(file: Path) -> bool:
    with file.open("rb") as table:
        return b",minutes_since_observed," in table.readline(1000)


def _selected_rows(frame: pd.DataFrame, patient: str | None, stay: str | None) -> pd.DataFrame:
    """Return the rows of the chosen stays: one of the patient, or all.

    A site table has no dates, and its stays are in the order of their ids, which are usually
    hashes: which stay of a patient is the last one is unknown.
    """
    if patient is not None:
        frame = frame[frame["patient_id"] == patient]
        if frame.empty:
            raise UsageError(f"the table has no patient {patient!r}")
    if stay is not None:
        frame = frame[frame["stay_id"] == stay]
        if frame.empty:
            whose = f"patient {patient!r}" if patient is not None else "the table"
            raise UsageError(f"{whose} has no stay {stay!r}")
    elif patient is not None and len(stays := frame["stay_id"].unique()) > 1:
        raise UsageError(
            f"patient {patient!r} has {len(stays)} stays, of which the table does not say the "
            f"order; name one with --stay: {', '.join(stays)}"
        )
    return frame


def _history(rows: pd.DataFrame, at: float | None, step_minutes: int) -> pd.DataFrame:
    """Return the rows before the forecast's beginning."""
    if at is None:
        return rows
    steps = at * 60 / step_minutes
    longest = int(rows["step"].max()) + 1
    if not 1 <= steps <= longest or steps != int(steps):
        raise UsageError(
            f"--at takes hours from {step_minutes / 60:g} to {longest * step_minutes / 60:g} in "
            f"steps of {step_minutes} minutes, got {at:g}"
        )
    # A stay that ends before is left out: its forecast would begin at another time.
    lengths = rows.groupby("stay_id")["step"].transform("max") + 1
    if short := rows.loc[lengths < steps, "stay_id"].nunique():
        print_line(f"Left out, since they end before {at:g} h: {short} of the stays")
    return rows[(rows["step"] < steps) & (lengths >= steps)]


def _patient_table(forecasts: Forecasts) -> Table:
    """Return the forecast of one patient at the first and the last step."""
    import numpy as np

    from common.data.vitals import VITALS
    from common.evaluation.evaluate import LEVELS

    hours = forecasts.step_minutes / 60
    first, last = f"in {hours:g} h", f"in {forecasts.quantiles.shape[1] * hours:g} h"
    keys = forecasts.keys.iloc[0]
    table = narrow_table(
        f"Patient {printable(keys['patient_id'])}, stay {printable(keys['stay_id'])}: "
        "last value, and forecast medians",
        ["vital sign"],
        ("last", "h ago", first, last, f"80 % {last}"),
    )
    low, median, high = (LEVELS.index(level) for level in (0.1, 0.5, 0.9))
    for row, index in enumerate(forecasts.vital):
        vital = VITALS[index]
        digits = 1 if vital.scale_floor < 1 else 0
        context = forecasts.context[row]
        seen = context[~np.isnan(context)]
        cells = ["-", "-"]
        if len(seen):
            cells = [f"{seen[-1]:.{digits}f}", f"{forecasts.last_observed[row] / 60:g}"]
        q = forecasts.quantiles[row]
        if forecasts.reasons[row]:
            cells += ["-", "-", "-"]
        else:
            cells += [f"{q[step, median]:.{digits}f}" for step in (0, -1)]
            cells.append(f"{q[-1, low]:.{digits}f} to {q[-1, high]:.{digits}f}")
        table.add_row(f"{vital.label}, {vital.unit}", *cells)
    return table


def _print_refusals(forecasts: Forecasts, patient: str | None) -> None:
    """Print how many series were forecast, and why the others were not."""
    refused = forecasts.refused()
    count, vitals = len(forecasts.reasons), len(set(forecasts.vital.tolist()))
    print_line(f"Forecast: {count - len(refused)} of {count} series (a vital sign of a stay)")
    for vital, rows in refused.groupby("vital", sort=False):
        reason = rows["reason"].mode()[0]
        if patient is None:
            reason = f"in {len(rows)} of {len(forecasts.reasons) // vitals} stays, e.g. {reason}"
        print_line(f"No forecast: {vital}: {reason}")


def _write_csv(forecasts: Forecasts, out: Path) -> None:
    from common.files.atomic_io import write_private
    from common.reporting.export.inert_csv import inert_text

    ids = {name: forecasts.table[name].map(inert_text) for name in ("patient_id", "stay_id")}
    text = forecasts.table.assign(**ids).to_csv(index=False, float_format="%.6g")
    try:
        write_private(out, text)
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror or error})") from error
