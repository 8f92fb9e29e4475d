"""Study of aggregation: rules, server optimizers, unequal ranks and wire types."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from common.config.run_config import RunConfig
from common.config.sections import OPTIMIZERS, RULES
from common.data.cohort_folder import site_table_paths
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import grouped
from simulation.experiments.cell_cache import Cell, SiteSettings
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.models.registry import ZERO_SHOT

BASE = "fedavg"
_SERVER_RATE = {"fedavgm": 1.0, "fedadam": 1e-3, "fedyogi": 1e-3}
"""FedAdam and FedYogi move each number by about the rate per round, however small the update."""
_UNEQUAL = (2, 4, 8)


def aggregation_experiment(config: RunConfig, _out: Path) -> Experiment:
    """Return FedAvg at equal ranks and arms that each differ from it in one respect.

    Unequal ranks: the cohort's sites have ranks 2, 4, 8 in turn.
    """
    sites = list(site_table_paths(Path(config.data)))
    base = config.replace(aggregation=config.aggregation.replace(rule="fedavg"))
    highest, lowest = max(_UNEQUAL), min(_UNEQUAL)
    return Experiment(
        name="aggregation",
        title="Aggregation of the adapters",
        question=(
            "Which rule gives the best global adapter, and what do unequal ranks and smaller "
            "messages cost?"
        ),
        groups={
            "reference": [Cell(ZERO_SHOT, "zero-shot", config), Cell(BASE, "federated", base)],
            "ranks": [
                _homogeneous(base, highest, BASE),
                _homogeneous(base, lowest, BASE),
                *(_unequal(base, rule, sites) for rule in ("svd", "flora")),
            ],
            "wire": [_wire(base, "float16"), _wire(base, "int8")],
            "rules": [_rule(base, rule) for rule in _possible_rules(config, len(sites))],
            "optimizers": [_optimizer(base, name) for name in OPTIMIZERS if name != "none"],
        },
        references=(ZERO_SHOT, BASE),
        notes=(
            f"The arm {BASE} has every site at rank {config.lora.rank} and float32 on the wire; "
            "every other arm differs from it in what its name says.",
            _ranks_note(sites),
            "krum and multi-krum need 2 f + 3 sites to tolerate f arbitrary ones; with fewer they "
            "are left out.",
        ),
    )


def _ranks_note(sites: list[str]) -> str:
    ranks = ", ".join(f"{site} {rank}" for site, rank in _ranks(sites).items())
    return f"Unequal ranks: {ranks}. alpha / rank is the same at every site."


def _ranks(sites: list[str]) -> dict[str, int]:
    return {site: _UNEQUAL[place % len(_UNEQUAL)] for place, site in enumerate(sites)}


def _homogeneous(base: RunConfig, rank: int, name: str) -> Cell:
    if rank == base.lora.rank:
        return Cell(name, "federated", base)
    # alpha / rank as in the base: what is compared is the rank and not the scale.
    lora = base.lora.at_rank(rank)
    return Cell(f"{name}, all at rank {rank}", "federated", base.replace(lora=lora))


def _unequal(base: RunConfig, rule: str, sites: list[str]) -> Cell:
    highest = max(_UNEQUAL)
    lora = base.lora.at_rank(highest).replace(min_rank=min(_UNEQUAL))
    aggregation = base.aggregation.replace(rule=rule)
    own: SiteSettings = {site: {"lora-rank": rank} for site, rank in _ranks(sites).items()}
    ranks = "/".join(map(str, _UNEQUAL))
    config = base.replace(lora=lora, aggregation=aggregation)
    return Cell(f"{rule}, ranks {ranks}", "federated", config, own)


def _wire(base: RunConfig, dtype: Literal["float16", "int8"]) -> Cell:
    wire = base.wire.replace(dtype=dtype)
    return Cell(f"{BASE}, {dtype}", "federated", base.replace(wire=wire))


def _possible_rules(config: RunConfig, sites: int) -> list[str]:
    needed = 2 * config.aggregation.byzantine + 3
    return [
        rule for rule in RULES if rule != BASE and (sites >= needed or not rule.endswith("krum"))
    ]


def _rule(base: RunConfig, rule: str) -> Cell:
    lora = base.lora.replace(train="b") if rule == "ffa" else base.lora
    aggregation = base.aggregation.replace(rule=rule)
    return Cell(rule, "federated", base.replace(lora=lora, aggregation=aggregation))


def _optimizer(base: RunConfig, name: str) -> Cell:
    aggregation = base.aggregation.replace(optimizer=name, learning_rate=_SERVER_RATE[name])
    return Cell(f"{BASE}, {name}", "federated", base.replace(aggregation=aggregation))


def summarise_aggregation(analysis: Analysis) -> StudySummary:
    """List the arms that differ from FedAvg at equal ranks."""
    return StudySummary(
        grouped(analysis, BASE),
        findings=[grouped(analysis, BASE, "mae"), grouped(analysis, ZERO_SHOT)],
    )


STUDY = Study("sweep aggregation", aggregation_experiment, summarise_aggregation)
