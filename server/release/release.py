"""Release of a run: the PEFT folder with its model card, and the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.adapter.adapter import Adapter
from common.adapter.peft_io import CARD_FILE, load_peft_folder, save_peft_folder
from common.adapter.trained_adapter import ADAPTER_FOLDER
from common.errors import AdapterError, FederationError
from common.files.atomic_io import write_text
from common.reporting.components import render_page
from common.reporting.export.export import export_page
from server.report.example_forecasts import Example
from server.report.model_card import model_card
from server.report.run_report import render_report, report_page
from server.runs.run_folder import REPORT_FILE, read_run_config
from server.runs.run_reader import RunRecord, read_run_record


def write_release(folder: Path, adapter: Adapter, best_round: int) -> None:
    """Write ``adapter/`` with its model card, and ``report.html``.

    Args:
        folder: the run folder with config.json and rounds.jsonl.
        adapter: the adapter to release.
        best_round: the round of that adapter; 0 is the untrained one.

    Raises:
        FederationError: the folder holds no run or cannot be written.
    """
    record = read_run_record(folder, adapter, best_round)
    try:
        save_peft_folder(
            adapter,
            folder / ADAPTER_FOLDER,
            model_card=model_card(record),
            settings=record.origin_settings,
        )
        write_text(folder / REPORT_FILE, render_report(record))
    except (OSError, AdapterError) as error:
        raise _unwritable(folder, error, "resume the run") from error


def update_release(
    folder: Path, examples: Sequence[Example] = (), export: Path | None = None
) -> Path:
    """Rewrite model card and report, e.g. after an evaluation; the adapter is not changed.

    Args:
        folder: a run folder with a released adapter.
        examples: forecasts to show in the report; they hold values of patients.
        export: folder for the report's tables and figures as files; None for none.

    Returns:
        The path of the report.

    Raises:
        FederationError: the folder holds no run or cannot be written.
        AdapterError: the released adapter is damaged.
        UsageError: the export's folder has other files, or cannot be written.
    """
    record = _read_released(folder)
    page = report_page(record, examples)
    try:
        write_text(folder / ADAPTER_FOLDER / CARD_FILE, model_card(record))
        write_text(folder / REPORT_FILE, render_page(page))
    except OSError as error:
        again = "run `python -m server evaluate` to write it again"
        raise _unwritable(folder, error, again) from error
    if export is not None:
        export_page(page, export)
    return folder / REPORT_FILE


def export_release(folder: Path, export: Path) -> None:
    """Write the tables and figures of a finished run's report as files; the run is not changed.

    Forecasts of single patients are not among them, since a run folder does not hold them.

    Args:
        folder: a run folder with a released adapter.
        export: the folder to write.

    Raises:
        FederationError: the folder holds no run.
        AdapterError: the released adapter is absent or damaged.
        UsageError: the export's folder has other files, or cannot be written.
    """
    export_page(report_page(_read_released(folder)), export)


def _read_released(folder: Path) -> RunRecord:
    read_run_config(folder)  # "holds no run" rather than "holds no adapter"
    return read_run_record(folder, load_peft_folder(folder / ADAPTER_FOLDER))


def _unwritable(folder: Path, error: Exception, again: str) -> FederationError:
    return FederationError(
        f"the release cannot be written to {folder} ({error}); free space or make it writable, "
        f"then {again}"
    )
