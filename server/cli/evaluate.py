"""`python -m server evaluate`: comparison of the global adapter with zero-shot and baselines."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from common.config.run_config import split_pairs
from common.console import (
    AdapterPath,
    ExportFolder,
    HiddenName,
    output_console,
    print_line,
    working,
)
from common.errors import UsageError
from common.files.output_folder import check_output
from common.interrupts import left_when_stopped

_Data = Annotated[
    Path, typer.Option(metavar="DIR", help="A cohort folder (sites/*.parquet), or one site table.")
]
_Split = Annotated[str, typer.Option(help="Patients to evaluate on: train, validation or test.")]
_Out = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The folder for evaluation.json. [default: the run folder, whose report and model "
        "card are updated; nothing is written for a PEFT folder]",
    ),
]
_Backbone = Annotated[
    str | None,
    typer.Option(help="Name or folder of the backbone. Required for an adapter that PEFT saved."),
]
_Config = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="`windows.*` or `task`; repeatable."),
    HiddenName("--config"),
]
_Examples = Annotated[
    bool | None,
    typer.Option(
        help="Show example forecasts in the report. They are values of single patients. "
        "[default: only if all sites are synthetic or from an open challenge]",
    ),
]


def evaluate(
    adapter: AdapterPath,
    data: _Data,
    split: _Split = "test",
    out: _Out = None,
    backbone: _Backbone = None,
    config: _Config = None,
    examples: _Examples = None,
    export: ExportFolder = None,
) -> None:
    """Compare an adapter with its frozen backbone, last value and a weighted mean.

    All forecast the same windows. Differences have 95 % intervals from a bootstrap over patients.
    """
    windows = split_pairs(config or [], {})
    if export is not None:
        from common.reporting.export.export import check_export_folder

        check_export_folder(export)
    console = output_console()
    written: list[Path] = []
    with left_when_stopped(lambda: _kept(written)), working("loading") as update:
        from common.adapter.peft_io import PEFT_CONFIG_FILE
        from common.adapter.trained_adapter import RUN_CONFIG_FILE
        from server.release.adapter_source import load_adapter
        from server.release.console_tables import evaluation_tables
        from server.release.evaluation import evaluate_adapter, write_evaluation
        from server.release.release import update_release
        from server.runs.run_folder import EVALUATION_FILE

        started = time.perf_counter()
        loaded = load_adapter(adapter, backbone=backbone, windows=windows)
        target = out or loaded.run
        in_run = loaded.run is not None and target is not None and _same(target, loaded.run)
        if export is not None and not in_run:
            raise UsageError(
                "--export takes the tables and figures of a run's report; give a run folder with "
                "--adapter, and no --out"
            )
        if target is not None:
            check_output(target, (EVALUATION_FILE, RUN_CONFIG_FILE, PEFT_CONFIG_FILE))
        evaluation = evaluate_adapter(loaded, data, split, examples=examples, progress=update)
        if target is not None:
            written.append(write_evaluation(evaluation.result, target))
        if loaded.run is not None and in_run:
            written.append(update_release(loaded.run, evaluation.examples, export))
    for table in evaluation_tables(evaluation.result):
        console.print(table)
        console.print()
    print_line(f"Evaluated in {time.perf_counter() - started:.1f} s")
    for path in written:
        print_line(f"Written: {path}")
    if not written:
        print_line("Nothing written; give a folder with --out to keep evaluation.json")
    if export is not None:
        from common.reporting.export.export import export_summary

        print_line(export_summary(export))


def _kept(written: list[Path]) -> str:
    done = f"written: {', '.join(map(str, written))}" if written else "nothing was written"
    return f"{done}; start the command again"


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
