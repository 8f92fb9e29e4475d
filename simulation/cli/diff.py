"""`python -m simulation diff`: settings, paired differences and cost of finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.console import ExportFolder, output_console, print_line
from common.errors import UsageError

_Runs = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN [RUN]",
        help="The reference A and the run B; with --against, the runs B, one per seed.",
    ),
]
_Against = Annotated[
    list[Path] | None,
    typer.Option(
        "--against",
        metavar="RUN",
        help="A run of the reference A, one per seed; repeatable. Runs are paired by seed.",
    ),
]
_Data = Annotated[
    Path | None,
    typer.Option(
        help="The cohort that the runs were evaluated on.", show_default="where they record it"
    ),
]
_Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Also write everything to this file, as JSON."),
]


def diff(
    runs: _Runs,
    against: _Against = None,
    data: _Data = None,
    json_file: _Json = None,
    export: ExportFolder = None,
) -> None:
    """Compare finished runs: settings that differ, paired differences, privacy and cost.

    `diff A B` shows B relative to A. Both are scored on the windows of the same test patients.
    Runs that were tested on other patients are not compared, and the exit code is then 2. For
    several seeds: `diff B1 B2 B3 --against A1 --against A2 --against A3`.
    """
    b, a = (runs, against) if against else (runs[1:], runs[:1])
    if not against and len(runs) != 2:
        raise UsageError(
            f"diff takes two runs, got {len(runs)}; for several seeds give those of the reference "
            "with --against"
        )
    from common.files.atomic_io import write_text
    from common.reporting.console import console_table
    from common.reporting.export.export import export_summary, export_tables
    from simulation.experiments.finished_runs.diff_tables import (
        diff_tables,
        exported_tables,
        statements,
    )
    from simulation.experiments.finished_runs.finished_run import read_finished_run
    from simulation.experiments.finished_runs.run_diff import diff_runs

    _check_outputs(json_file, export)
    with Console(stderr=True).status("reading") as status:
        groups = [[read_finished_run(run) for run in group] for group in (a, b)]
        found = diff_runs(groups[0], groups[1], data, status.update)
    console = output_console()
    for name, group in found.groups().items():
        print_line(f"{name.upper()}: {', '.join(str(run.folder) for run in group)}")
    for table in diff_tables(found).values():
        console.print(console_table(table))
    for line in statements(found):
        console.print(line, highlight=False, markup=False)
    if json_file is not None:
        text = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        try:
            write_text(json_file, text + "\n")
        except OSError as error:
            raise UsageError(
                f"{json_file} cannot be written ({error.strerror or error}); give another file"
            ) from error
        print_line(f"Written: {json_file}")
    if export is not None:
        export_tables(exported_tables(found), export)
        print_line(export_summary(export))
    if found.refusal:
        raise UsageError(
            f"no difference is computed: {found.refusal}; evaluate both with python -m server "
            "evaluate --adapter RUN --data COHORT on one cohort, of which neither was trained on a "
            "test patient, then compare again"
        )


def _check_outputs(json_file: Path | None, export: Path | None) -> None:
    """Check the output places before anything is read."""
    from common.files.output_folder import check_output_file
    from common.reporting.export.export import check_export_folder

    if export is not None:
        check_export_folder(export)
    if json_file is not None:
        check_output_file(
            json_file,
            lambda file: "bootstrap" in json.loads(file.read_bytes()),
            kind="comparison of runs",
            remedy="give another --json",
        )
