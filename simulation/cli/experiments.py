"""What the commands of experiments share: their options, and how one is conducted and told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from common.config.run_config import RunConfig, parse_settings
from common.console import HiddenName, output_console
from common.errors import UsageError
from common.paths import current_cohort, home

if TYPE_CHECKING:
    from simulation.experiments.analysis.analysis import Analysis
    from simulation.experiments.experiment import Experiment
    from simulation.experiments.output.html import Shown

Data = Annotated[Path | None, typer.Option(help="Cohort folder. [default: the one prepared last]")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder that experiments share, so that none trains what another has trained. "
        "[default: FEDVITALS_HOME/experiments]"
    ),
]
Seeds = Annotated[str, typer.Option(help="Seeds, separated by commas.")]
Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="GROUP", help="These groups of arms alone.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("-c", "--set", metavar="KEY=VALUE", help="A setting of the run; repeatable."),
    HiddenName("--config"),
]
FullRate = Annotated[float, typer.Option(help="Learning rate where all weights are trained.")]


def settings_of(data: Path | None, config: list[str] | None) -> RunConfig:
    """Return the settings that all arms share.

    Raises:
        UsageError: a setting that the experiment itself sets.
    """
    for pair in config or []:
        if pair.partition("=")[0].strip() in ("seed", "out", "data", "resume"):
            raise UsageError(f"an experiment sets {pair} itself; see --seeds, --out, --data")
    folder = (data or current_cohort()).absolute()
    return parse_settings(config or [], {"data": str(folder)})


def output_folder(out: Path | None) -> Path:
    """Return the folder that experiments share."""
    return (out or home() / "experiments").absolute()


def numbers(text: str, option: str, kind: Callable[[str], Any] = int) -> list[Any]:
    """Read numbers that are separated by commas.

    Raises:
        UsageError: where there is none, one is given twice or cannot be read.
    """
    try:
        values = [kind(part) for part in text.split(",") if part.strip()]
    except ValueError:
        values = []
    if not values or len(set(values)) < len(values) or min(values) < 0:
        raise UsageError(f"{option} takes different numbers, separated by commas, got {text!r}")
    return values


def run_and_tell(
    experiment: Experiment,
    show: Callable[[Analysis], Shown],
    *,
    seeds: str,
    out: Path | None,
    name: str,
    config: list[str] | None,
    only: list[str] | None = None,
) -> None:
    """Conduct an experiment and print its table, what it shows, and where its page is.

    Args:
        experiment: what is asked.
        show: says what it shows.
        seeds: as given.
        out: as given.
        name: the command's name with its own options.
        config: the pairs of ``-c``.
        only: groups.
    """
    from simulation.experiments.run_experiment import conduct, summary_table

    command = " ".join(
        [
            f"python -m simulation {name} --data DIR --seeds {seeds}",
            *(f"--only {group}" for group in only or []),
            *(f"-c {pair}" for pair in config or []),
        ]
    )
    console = output_console()
    done = conduct(
        experiment,
        numbers(seeds, "--seeds"),
        output_folder(out),
        show,
        command=command,
        only=only or [],
        console=Console(stderr=True),
    )
    console.print(summary_table(done.analysis, experiment.title))
    for text in (done.shown.headline, *done.shown.warnings):
        console.print(text, highlight=False)
    console.print(f"Page: {done.page}", soft_wrap=True, highlight=False)
