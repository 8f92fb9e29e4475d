"""`python -m simulation prepare`: conversion of a source of ICU data to one site table per site."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from common.console import byte_progress, output_console, print_line
from common.errors import UsageError
from common.files.paths import default_cohort_folder, use_cohort
from common.interrupts import left_when_stopped

if TYPE_CHECKING:
    from common.data.cohort_writer import Cohort
    from simulation.cohorts.mimic3.cohort import Mimic3Settings

app = typer.Typer(
    help="Convert a source of ICU data to one site table per hospital.",
    invoke_without_command=True,
)

SOURCES = {
    "mimic3": "MIMIC-III v1.4 tables (credentialed access, or the open demo): five care units",
    "challenge-2019": "PhysioNet/CinC Challenge 2019 (open): hospital and unit, Sepsis-3 label",
    "challenge-2012": "PhysioNet/CinC Challenge 2012 (open): four unit types, first 48 hours",
    "synthetic": "A synthetic MIMIC-III, generated: no data needed",
}

_Out = Annotated[
    Path | None,
    typer.Option(help="The cohort folder. [default: FEDVITALS_HOME/cohorts/SOURCE]"),
]
_Group = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A group that may read the cohort. [default: its owner alone]",
        show_default=False,
    ),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the cohort in --out.")]
_StepMinutes = Annotated[int, typer.Option(help="Length of a time step, in minutes.")]
_MinHours = Annotated[int, typer.Option(help="Least hours with vital signs in a stay.")]
_Sepsis = Annotated[
    str, typer.Option(help="Selection of patients: explicit, angus, martin, sepsis3 or none.")
]
_Era = Annotated[str, typer.Option(help="all, or metavision (2008-2012) only.")]
_Units = Annotated[str, typer.Option(help="Care units, separated by commas.")]
_MemoryGb = Annotated[float, typer.Option(help="Memory limit of the queries, in GB.")]
_Source = Annotated[Path, typer.Option(help="The challenge's archive, or its unpacked folder.")]

ALL_UNITS = "ccu,csru,micu,sicu,tsicu"


@app.callback()
def prepare(context: typer.Context) -> None:
    """Show the sources if none is given."""
    if context.invoked_subcommand is not None:
        return
    table = Table(title="Sources", title_justify="left")
    table.add_column("python -m simulation prepare ...")
    table.add_column("source")
    for name, source in SOURCES.items():
        table.add_row(name, source)
    output_console().print(table)
    output_console().print("`python -m simulation prepare SOURCE --help` shows a source's options.")


@app.command("mimic3")
def mimic3(
    mimic_dir: Annotated[Path, typer.Option(help="Folder of the MIMIC-III tables.")],
    out: _Out = None,
    sepsis: _Sepsis = "explicit",
    era: _Era = "all",
    step_minutes: _StepMinutes = 60,
    min_hours: _MinHours = 12,
    units: _Units = ALL_UNITS,
    memory_gb: _MemoryGb = 2.0,
    group: _Group = "",
    overwrite: _Overwrite = False,
) -> None:
    """Prepare MIMIC-III v1.4: the five adult care units become five hospitals.

    The tables need credentialed access; the demo is open.
    """
    from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort

    settings = Mimic3Settings(sepsis, era, step_minutes, min_hours, _split_units(units))

    def build() -> Cohort:
        with byte_progress("reading CHARTEVENTS") as progress:
            return mimic3_cohort(mimic_dir, settings, memory_gb=memory_gb, progress=progress)

    _prepare("mimic3", settings.to_json(), build, out, group, overwrite)


@app.command("synthetic")
def synthetic(
    out: _Out = None,
    stays: Annotated[int, typer.Option(help="Number of ICU stays.")] = 400,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 0,
    sepsis: _Sepsis = "explicit",
    era: _Era = "all",
    step_minutes: _StepMinutes = 60,
    min_hours: _MinHours = 12,
    units: _Units = ALL_UNITS,
    group: _Group = "",
    overwrite: _Overwrite = False,
) -> None:
    """Generate a synthetic MIMIC-III and prepare it with the code for the real one."""
    from simulation.cohorts.mimic3.cohort import Mimic3Settings

    settings = Mimic3Settings(sepsis, era, step_minutes, min_hours, _split_units(units))
    parameters = {**settings.to_json(), "stays": stays, "seed": seed}
    _prepare(
        "synthetic",
        parameters,
        lambda: _synthetic_cohort(settings, stays, seed),
        out,
        group,
        overwrite,
    )


@app.command("challenge-2019")
def challenge_2019_command(
    source: _Source,
    out: _Out = None,
    sepsis: Annotated[
        str, typer.Option(help="Selection of patients: label (any SepsisLabel) or none.")
    ] = "label",
    step_minutes: _StepMinutes = 60,
    min_hours: _MinHours = 12,
    group: _Group = "",
    overwrite: _Overwrite = False,
) -> None:
    """Prepare the PhysioNet/CinC Challenge 2019: sites by hospital and unit."""
    from simulation.cohorts.physionet_challenge import challenge_2019

    parameters = {"sepsis": sepsis, "step_minutes": step_minutes, "min_hours": min_hours}

    def build() -> Cohort:
        with byte_progress("reading the archive") as progress:
            return challenge_2019(
                source,
                sepsis=sepsis,
                step_minutes=step_minutes,
                min_hours=min_hours,
                progress=progress,
            )

    _prepare("challenge-2019", parameters, build, out, group, overwrite)


@app.command("challenge-2012")
def challenge_2012_command(
    source: _Source,
    out: _Out = None,
    step_minutes: _StepMinutes = 60,
    min_hours: _MinHours = 12,
    group: _Group = "",
    overwrite: _Overwrite = False,
) -> None:
    """Prepare the PhysioNet/CinC Challenge 2012: sites by unit type, first 48 hours."""
    from simulation.cohorts.physionet_challenge import challenge_2012

    parameters = {"step_minutes": step_minutes, "min_hours": min_hours}

    def build() -> Cohort:
        with byte_progress("reading the archive") as progress:
            return challenge_2012(
                source, step_minutes=step_minutes, min_hours=min_hours, progress=progress
            )

    _prepare("challenge-2012", parameters, build, out, group, overwrite)


def _prepare(
    source: str,
    parameters: Mapping[str, object],
    build: Callable[[], Cohort],
    out: Path | None,
    group: str,
    overwrite: bool,
) -> None:
    """Build a cohort, write it, make it the current one and print its summary."""
    from common.backbones.weights_store import install_packaged
    from common.data.cohort_folder import TABLE1_CSV, TABLE1_MARKDOWN
    from common.data.cohort_writer import check_free, write_cohort
    from common.data.exclusion_flow import flow_table
    from common.data.summary import sites_table
    from common.files.private import access_of, private_umask
    from common.reporting.characteristics import characteristics_page

    access = access_of(group)
    folder = default_cohort_folder(source) if out is None else out
    check_free(folder, source, parameters, overwrite)
    with left_when_stopped(f"nothing was written to {folder}"):
        with private_umask():
            cohort = build()
        record = write_cohort(cohort, folder, overwrite, access)
    with left_when_stopped(f"the cohort is whole, in {folder}"):
        use_cohort(folder)
        # An app that Flower ships has no weights of its own: it loads these.
        install_packaged()
        console = output_console()
        console.print(flow_table(record["flow"]))
        if cohort.dropped:
            dropped = ", ".join(f"{reason} {count:,}" for reason, count in cohort.dropped.items())
            console.print(f"Measurements dropped: {dropped}")
        console.print(sites_table(folder))
        for part in characteristics_page(record["characteristics"], console.width):
            console.print(part)
        print_line(f"Table 1: {folder / TABLE1_MARKDOWN}, {folder / TABLE1_CSV}")
        print_line(f"Cohort: {folder}")


def _synthetic_cohort(settings: Mimic3Settings, stays: int, seed: int) -> Cohort:
    from simulation.cohorts.mimic3.cohort import mimic3_cohort
    from simulation.cohorts.synthetic import write_synthetic_mimic

    with tempfile.TemporaryDirectory(prefix="fedvitals-synthetic-") as folder:
        write_synthetic_mimic(Path(folder), stays=stays, seed=seed)
        cohort = mimic3_cohort(Path(folder), settings, source="synthetic")
    cohort.parameters |= {"stays": stays, "seed": seed}
    return cohort


def _split_units(units: str) -> tuple[str, ...]:
    names = tuple(unit.strip().lower() for unit in units.split(",") if unit.strip())
    if not names:
        raise UsageError(f"--units is empty; choose from {ALL_UNITS}")
    return names
