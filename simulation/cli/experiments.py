"""Options and steps that the experiment commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from common.config.run_config import RunConfig, parse_settings
from common.console import HiddenName, error_console, output_console, print_line
from common.data.cohort_folder import check_prepared_steps, cohort_line
from common.errors import UsageError
from common.files.output_folder import check_output
from common.files.paths import PREPARED_LAST, current_cohort, home
from common.interrupts import left_when_stopped

if TYPE_CHECKING:
    from simulation.experiments.experiment import Study
    from simulation.experiments.run_experiment import StudyResult

RECORDS = ("cells", "runs", "cohorts", "probes", "cost", "full", "reduced")
"""Folders by which a folder of experiments is recognised."""

Data = Annotated[
    Path | None, typer.Option(help="Cohort folder.", show_default="the one prepared last")
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Output folder. Experiments that share it reuse each other's finished cells.",
        show_default="FEDVITALS_HOME/experiments",
    ),
]
Seeds = Annotated[str, typer.Option(help="Seeds, separated by commas.")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="GROUP", help="Run this group of arms only; repeatable."),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="A setting of the run; repeatable."),
    HiddenName("--config"),
]
FullRate = Annotated[float, typer.Option(help="Learning rate of full fine-tuning.")]


def run_and_print(
    study: Study,
    options: Mapping[str, Any],
    *,
    data: Path | None,
    out: Path | None,
    seeds: str,
    config: list[str] | None,
    only: list[str] | None = None,
    export: Path | None = None,
) -> None:
    """Run a study and print its table, its headline and warnings, and the path of its page.

    Args:
        study: the study.
        options: its own options, as `Study.build` takes them.
        data: value of ``--data``.
        out: value of ``--out``.
        seeds: value of ``--seeds``.
        config: values of ``-c``.
        only: values of ``--only``.
        export: value of ``--export``.
    """
    from common.reporting.export.export import check_export_folder, export_summary
    from simulation.experiments.run_experiment import run_study

    if export is not None:
        check_export_folder(export)
    folder = output_folder(out)
    with kept_cells(folder):
        result = run_study(
            study,
            shared_settings(data, config),
            parse_numbers(seeds, "--seeds"),
            folder,
            options=options,
            pairs=config or [],
            only=only or [],
            console=error_console(),
            export=export,
        )
    console = output_console()
    print_result(console, result)
    for warning in result.summary.warnings:
        console.print(warning, highlight=False)
    console.print(f"Page: {result.page}", soft_wrap=True, highlight=False)
    if export is not None:
        print_line(export_summary(export))


def print_result(console: Console, result: StudyResult) -> None:
    """Print a study's table and headline."""
    from simulation.experiments.run_experiment import summary_table

    console.print(summary_table(result))
    console.print(result.summary.headline, highlight=False)


def shared_settings(data: Path | None, config: list[str] | None) -> RunConfig:
    """Return the settings that all arms share.

    Raises:
        UsageError: `config` has a setting that the experiment sets itself, or the cohort's steps
            are not those that the settings name.
    """
    for pair in config or []:
        if pair.partition("=")[0].strip() in ("seed", "out", "data", "resume"):
            raise UsageError(f"an experiment sets {pair} itself; see --seeds, --out, --data")
    folder = (data or current_cohort()).absolute()
    why = f"{PREPARED_LAST}; --data names another" if data is None else "named with --data"
    print_line(cohort_line(folder, why))
    settings = parse_settings(config or [], {"data": str(folder)})
    check_prepared_steps(settings)
    return settings


def output_folder(out: Path | None) -> Path:
    """Return the folder that experiments share.

    Raises:
        UsageError: it has files of another kind, or cannot be written.
    """
    folder = (out or home() / "experiments").absolute()
    check_output(folder, RECORDS)
    return folder


def kept_cells(folder: Path) -> AbstractContextManager[None]:
    """Say, where the block is interrupted, that its finished cells are kept."""
    return left_when_stopped(
        f"what is finished is kept in {folder}; the same command continues from there"
    )


def parse_numbers(text: str, option: str, kind: Callable[[str], Any] = int) -> list[Any]:
    """Parse comma-separated numbers from 0.

    Raises:
        UsageError: there is none, one is given twice, or one is not a number.
    """
    try:
        values = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or len(set(values)) < len(values) or min(values) < 0:
        raise UsageError(f"{option} takes different numbers, separated by commas, got {text!r}")
    return values


def parse_backbones(text: str) -> list[str]:
    """Parse comma-separated backbones; by default those of the package that are installed."""
    from common.backbones.catalog import packaged_backbones

    return [name.strip() for name in text.split(",") if name.strip()] or packaged_backbones()
