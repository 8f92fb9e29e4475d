"""`python -m simulation attack`: attacks that measure the privacy of a site's replies."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from common.console import error_console, is_live, narrow_table, output_console
from common.errors import UsageError
from common.interrupts import left_when_stopped
from simulation.cli.experiments import parse_numbers

if TYPE_CHECKING:
    from simulation.attacks.membership import Attack

app = typer.Typer(help="Measure the privacy of a site's replies by attacks.", no_args_is_help=True)

MOST_TRIALS, MOST_PATIENTS = 1_000_000, 10_000


@app.callback()
def attack() -> None:
    """Group, so that the only attack is called by its name."""


@app.command("membership")
def membership(
    epsilons: Annotated[
        str, typer.Option(help="Claimed epsilons, separated by commas.")
    ] = "0.5,1,3,8",
    trials: Annotated[
        int, typer.Option(help="Number of trials with each of the two tables.")
    ] = 1000,
    patients: Annotated[int, typer.Option(help="Number of patients in the larger table.")] = 20,
    delta: Annotated[float, typer.Option(help="Delta of the guarantee.")] = 1e-5,
    seed: Annotated[int, typer.Option(help="Seed of the patients, the model and the noise.")] = 0,
    backbone: Annotated[
        str,
        typer.Option(help="Name or folder of the backbone. [default: a tiny random Chronos-Bolt]"),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Attack a site's replies and compare the measured with the claimed epsilon.

    The site replies to a round many times, from a table and from the same table without one
    patient; the attack tells the two apart. No data is needed.
    """
    claimed = parse_numbers(epsilons, "--epsilons", float)
    _check(claimed, trials, patients, delta, seed)
    from simulation.attacks.membership import attack_membership
    from simulation.attacks.worlds import scratch_folder

    arms: list[float | None] = [*claimed, None]
    with (
        left_when_stopped("no result is kept; start the command again"),
        scratch_folder() as folder,
        _progress(2 * trials * len(arms)) as progress,
    ):
        used = backbone or _tiny(folder, seed)
        attacks = [
            attack_membership(
                folder / f"arm-{place}",
                used,
                claimed=arm,
                delta=delta,
                patients=patients,
                trials=trials,
                seed=seed,
                on_trial=progress,
            )
            for place, arm in enumerate(arms)
        ]
    if as_json:
        settings = {"trials": trials, "patients": patients, "delta": delta, "seed": seed}
        found = [asdict(one) for one in attacks]
        typer.echo(json.dumps(_finite({**settings, "attacks": found}), indent=2))
        return
    _show(attacks, delta)


def _check(claimed: Sequence[float], trials: int, patients: int, delta: float, seed: int) -> None:
    if not claimed or not all(1e-3 <= epsilon <= 100.0 for epsilon in claimed):
        raise UsageError(f"--epsilons takes numbers from 0.001 to 100, got {list(claimed)}")
    if not 20 <= trials <= MOST_TRIALS or not 2 <= patients <= MOST_PATIENTS:
        raise UsageError(
            f"--trials takes 20 to {MOST_TRIALS:,} and --patients 2 to {MOST_PATIENTS:,}, got "
            f"{trials} and {patients}"
        )
    if not 1e-12 <= delta <= 0.01 or seed < 0:
        raise UsageError(
            f"--delta takes 1e-12 to 0.01 and --seed 0 or more, got {delta:g} and {seed}"
        )


def _tiny(folder: Path, seed: int) -> str:
    from simulation.attacks.tiny_backbone import make_tiny_backbone

    return str(make_tiny_backbone(folder / "backbone", seed))


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    console = error_console()
    with Progress(console=console, transient=True, disable=not is_live(console)) as bar:
        task = bar.add_task("trials", total=total)
        yield lambda: bar.advance(task)


def _show(attacks: Sequence[Attack], delta: float) -> None:
    table = narrow_table(
        f"Was the patient in the table? Epsilon at delta {delta:g}, 95 %",
        ["claimed"],
        ["sigma", "measured at least", "interval", "as a Gaussian", "by the noise's strength"],
    )
    for one in attacks:
        found = one.membership
        table.add_row(
            "no noise" if one.claimed is None else f"{one.claimed:g}",
            f"{one.noise_multiplier:.3f}",
            f"{found.low:.2f}",
            f"{found.low:.2f} to {_number(found.high)}",
            f"{found.gaussian:.2f}",
            f"{one.strength.low:.2f}",
        )
    console = output_console()
    console.print(table)
    trials, part = attacks[0].membership.trials, attacks[0].part
    console.print(
        f"{trials} trials of each table are judged, with thresholds chosen on as many others: no "
        f"event can show more than about {math.log(trials / 3.7):.1f}. The patient's part of a "
        f"step is {part:.4f} clip norms long.",
        highlight=False,
        soft_wrap=True,
    )


def _number(value: float) -> str:
    return "no bound" if math.isinf(value) else f"{value:.2f}"


def _finite(value: Any) -> Any:
    """Return a value with infinity as None, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and math.isinf(value) else value
