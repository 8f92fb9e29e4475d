"""`python -m simulation sweep`: one study per command, all arms on the same patients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer

from common.console import ExportFolder
from simulation.cli.experiments import (
    Data,
    Only,
    Out,
    Seeds,
    Settings,
    parse_backbones,
    parse_numbers,
    run_and_print,
)
from simulation.experiments.defaults import FULL_RATE, SEEDS


@dataclass(frozen=True)
class StudyOption:
    """Option of a single study.

    Attributes:
        name: keyword of the study's `build`; the option is ``--name`` with dashes.
        default: default on the command line.
        help: help text.
        parse: turns the value on the command line into the keyword's value.
    """

    name: str
    default: str | float
    help: str
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Sweep:
    """Command of a study.

    Attributes:
        name: name of the command and of the module in `simulation.experiments.studies`.
        help: help text.
        options: options beside those that all sweeps have.
    """

    name: str
    help: str
    options: tuple[StudyOption, ...] = ()


RANKS = "1,2,4,8,16,32"

SWEEPS = (
    Sweep(
        "aggregation",
        "Compare aggregation rules and wire types. Groups: ranks, wire, rules, optimizers.",
    ),
    Sweep(
        "ranks",
        "Compare adapter ranks, up to full fine-tuning. Groups: ranks, full.",
        (
            StudyOption(
                "ranks",
                RANKS,
                "Ranks, separated by commas; by default those that the backbone can have.",
                lambda text: None if text == RANKS else parse_numbers(text, "--ranks"),
            ),
            StudyOption("full_rate", FULL_RATE, "Learning rate of full fine-tuning.", float),
        ),
    ),
    Sweep(
        "backbones",
        "Compare backbones, zero-shot and with federated LoRA. One group per backbone.",
        (
            StudyOption(
                "backbones",
                "",
                "Names or folders, separated by commas; by default the package's.",
                parse_backbones,
            ),
        ),
    ),
    Sweep(
        "sites",
        "Compare the cohort's sites with random splits of its patients. Groups: random, pooled.",
        (
            StudyOption(
                "counts",
                "2,5,10",
                "Numbers of sites of the random splits, separated by commas.",
                lambda text: parse_numbers(text, "--counts"),
            ),
        ),
    ),
    Sweep(
        "privacy",
        "Compare privacy budgets, training B alone (group b) or both matrices (group ab).",
        (
            StudyOption(
                "epsilons",
                "10,3,1",
                "Budgets, separated by commas; no privacy is always included.",
                lambda text: parse_numbers(text, "--epsilons", float),
            ),
            StudyOption(
                "rate",
                0.0,
                "privacy.learning-rate of every budget; 0 = chosen by budget.",
                float,
            ),
        ),
    ),
)


def _command(sweep: Sweep) -> Callable[..., None]:
    """Return a function with the parameters from which typer makes the sweep's options."""

    def command(
        data: Path | None,
        out: Path | None,
        seeds: str,
        only: list[str] | None,
        config: list[str] | None,
        export: Path | None,
        **own: Any,
    ) -> None:
        study = import_module(f"simulation.experiments.studies.{sweep.name}").STUDY
        options = {option.name: option.parse(own[option.name]) for option in sweep.options}
        run_and_print(
            study,
            options,
            data=data,
            out=out,
            seeds=seeds,
            config=config,
            only=only,
            export=export,
        )

    parameters = {
        "data": (Data, None),
        "out": (Out, None),
        **{
            option.name: (
                Annotated[type(option.default), typer.Option(help=option.help)],
                option.default,
            )
            for option in sweep.options
        },
        "seeds": (Seeds, SEEDS),
        "only": (Only, None),
        "config": (Settings, None),
        "export": (ExportFolder, None),
    }
    command.__annotations__ = {name: annotation for name, (annotation, _) in parameters.items()}
    command.__signature__ = Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
            for name, (annotation, default) in parameters.items()
        ]
    )
    return command


app = typer.Typer(help="Run a study: one question, many runs.", no_args_is_help=True)
for _sweep in SWEEPS:
    app.command(_sweep.name, help=_sweep.help)(_command(_sweep))
