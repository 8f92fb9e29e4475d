"""All experiments one after the other: reduced to half an hour, or in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.atomic_io import write_text
from common.config.run_config import RunConfig, Value
from common.data.cohort_folder import site_table_paths
from common.reporting.components import (
    Page,
    Part,
    Row,
    Section,
    Table,
    Tile,
    raw_html,
    render_page,
)
from simulation.experiments.defaults import FULL_RATE
from simulation.experiments.experiment import Experiment
from simulation.experiments.output.html import PAGE_FILE
from simulation.experiments.run_experiment import Conducted, Show, conduct
from simulation.experiments.studies.aggregation import aggregation_sweep, show_aggregation
from simulation.experiments.studies.backbones import (
    backbones_sweep,
    packaged_backbones,
    show_backbones,
)
from simulation.experiments.studies.comparison import comparison
from simulation.experiments.studies.comparison import show as show_comparison
from simulation.experiments.studies.privacy import EPSILONS, privacy_sweep, show_privacy
from simulation.experiments.studies.ranks import RANKS, ranks_sweep, show_ranks
from simulation.experiments.studies.sites import show_sites, sites_sweep

REDUCED: dict[str, Value] = {
    "rounds": 3,
    "train.steps": 10,
    "windows.stride": 12,
    "windows.vitals": "heart_rate,mbp",
}
"""Settings that make every run small; what is given with -c goes before them."""


@dataclass(frozen=True)
class Planned:
    """An experiment of the series, with its command's name and what says what it shows."""

    experiment: Experiment
    show: Show
    name: str


def planned(config: RunConfig, out: Path, *, full: bool) -> Iterator[Planned]:
    """Give the experiments in their order, the comparison first."""
    ranks = RANKS if full else (1, 8, 32)
    epsilons = EPSILONS if full else (10.0, 1.0)
    counts = (2, 5, 10) if full else (2, 5)
    sites = list(site_table_paths(Path(config.data)))
    yield Planned(comparison(config), show_comparison, f"compare --full-rate {FULL_RATE:g}")
    yield Planned(aggregation_sweep(config, sites), show_aggregation, "sweep aggregation")
    yield Planned(ranks_sweep(config, ranks), show_ranks, f"sweep ranks --ranks {_listed(ranks)}")
    yield Planned(
        sites_sweep(config, counts, out), show_sites, f"sweep sites --counts {_listed(counts)}"
    )
    yield Planned(
        privacy_sweep(config, epsilons),
        show_privacy,
        f"sweep privacy --epsilons {_listed(epsilons)}",
    )
    yield Planned(backbones_sweep(config, backbones_of(config)), show_backbones, "sweep backbones")


def backbones_of(config: RunConfig) -> list[str]:
    """Return the packaged backbones, or the one that the settings name if it is another."""
    packaged = packaged_backbones()
    return packaged if config.backbone in packaged else [config.backbone]


def reproduce(
    config: RunConfig,
    seeds: Sequence[int],
    out: Path,
    *,
    full: bool,
    pairs: str,
    console: Console,
    tell: Callable[[Conducted], None],
) -> Path:
    """Conduct every experiment and write a page that leads to each; return its path.

    Args:
        config: the settings that all share.
        seeds: at least one.
        out: the folder that experiments share.
        full: whether nothing is reduced.
        pairs: the pairs of ``-c``, as the pages' commands show them.
        console: where progress is shown.
        tell: told of each experiment when it is done.
    """
    done: list[tuple[Planned, Conducted]] = []
    seeds_text = ",".join(map(str, seeds))
    for plan in planned(config, out, full=full):
        command = f"python -m simulation {plan.name} --data DIR --seeds {seeds_text}{pairs}"
        conducted = conduct(
            plan.experiment, seeds, out, plan.show, command=command, console=console
        )
        tell(conducted)
        done.append((plan, conducted))
    write_text(out / PAGE_FILE, render_page(_page(done, config, full=full)))
    return out / PAGE_FILE


def _page(done: Sequence[tuple[Planned, Conducted]], config: RunConfig, *, full: bool) -> Page:
    rows = [
        Row(
            plan.experiment.title,
            [
                raw_html(
                    '<a href="{}/index.html">{}</a>', plan.experiment.name, plan.experiment.name
                ),
                conducted.shown.headline,
            ],
        )
        for plan, conducted in done
    ]
    table = Table(
        "Each with its page, tables and figures", ["", "Page", "Finding"], rows, text=True
    )
    small = ", ".join(f"{key} = {value}" for key, value in REDUCED.items())
    note = "In full." if full else f"In reduced form ({small}): its figures show the way, not more."
    return Page(
        kicker="experiments",
        title="All experiments on one cohort",
        headline=note,
        tiles=[
            Tile(
                "Cohort",
                Path(config.data).name,
                f"{len(site_table_paths(Path(config.data)))} sites",
            ),
            Tile("Experiments", str(len(done)), "one page each"),
        ],
        sections=[Section("list", "What they found", [Part(tables=[table])])],
    )


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
