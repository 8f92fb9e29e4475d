"""The section of what it takes to run it again: a command, digests, and versions.

The section of what was run: model, adapter, sites and settings.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from common.backbones.catalog import CATALOG
from common.config.run_config import RunConfig
from common.reporting.components import Part, Row, Section, Table, drawn, short
from common.reporting.phrasing import count
from server.runs.run_reader import RunRecord


def setup_section(record: RunRecord) -> Section:
    """Return the section of backbone, adapter and sites."""
    backbone, adapter = record.backbone, record.adapter
    model = [
        (
            "Backbone",
            f"{short(record.backbone_name)} ({short(backbone.get('family', ''))}), frozen",
        ),
        ("Backbone parameters", f"{int(backbone.get('parameters', 0)):,}"),
        *(
            (name.capitalize(), short(text))
            for name, text in sorted(dict(backbone.get("facts", {})).items())
        ),
        ("Adapter", f"LoRA, rank {adapter.rank}, alpha {adapter.alpha:g}"),
        ("Adapter parameters", f"{adapter.num_parameters:,} in {len(adapter.modules)} layers"),
        ("Rounds", f"{record.trained_rounds} of {record.settings.get('rounds', '?')}"),
        ("Aggregation", short(_aggregation(record))),
        ("Released round", f"{record.best_round}, {_chosen(record)}"),
    ]
    sites = [
        Row(
            short(name),
            [
                count(site.get("patients")),
                count(site.get("windows")),
                str(site.get("rank", adapter.rank)),
                short(site["source"]),
                short(site["rule"]),
            ],
        )
        for name, site in record.sites.items()
    ]
    header = ["Site", "Training patients", "Training windows", "Rank", "Source", "Cohort rule"]
    part = Part(
        tables=[pairs_table("Model and adapter", model), Table("Sites", header, sites, text=True)],
        folded_title="All settings",
        folded=[
            pairs_table(
                "Settings", [(k, short(v)) for k, v in record.public_settings.items()], "Key"
            )
        ],
    )
    return Section("setup", "What was run", [part])


def _aggregation(record: RunRecord) -> str:
    """The rule and the optimizer, as the settings resolve them."""
    config = record.resolved
    rule = f"{config.rule}, weights: {config.weighting}"
    optimizer = config.aggregation.optimizer
    return rule if optimizer == "none" else f"{rule}, server optimizer {optimizer}"


def _chosen(record: RunRecord) -> str:
    return "the best by validation WQL" if record.validation_curve() else "the last"


def pairs_table(caption: str, pairs: Sequence[tuple[str, str]], key: str = "What") -> Table:
    """Return a table of two columns of words."""
    return Table(caption, [key, "Value"], [Row(name, [text]) for name, text in pairs], text=True)


_COMMAND = """\
COHORT is a folder of site tables with the digests below, RUN a new folder. All settings that are
not named have their defaults; the whole list stands under \"What was run\"."""

_SAME = """\
With these settings, weights, tables and versions a run with train.threads = 1 ends in the same
adapter, byte for byte, on CPUs of one kind; on others the last digits differ."""


def reproduction_section(record: RunRecord) -> Section:
    """Return the section; what the cohort was made from is there once it was evaluated."""
    evaluation = record.evaluation or {}
    command = Part(paragraphs=[_COMMAND], code=rerun_command(record))
    notes = [_SAME]
    if resumed := record.config.get("resumed_after"):
        rounds = ", ".join(str(number) for number in resumed)
        notes.append(f"The run was cut off and resumed after round {rounds}; that changes no byte.")
    if evaluation:
        bootstrap = evaluation["bootstrap"]
        notes.append(
            f"Bootstrap: {bootstrap['replicates']:,} replicates over patients, seed "
            f"{bootstrap['seed']}. evaluation.json holds every figure of the results."
        )
    versions = {**evaluation.get("versions", {}), **record.config.get("versions", {})}
    tables = [
        _digests(record),
        *_cohort(evaluation.get("cohort") or {}),
        pairs_table("Versions", [(k, short(v)) for k, v in sorted(versions.items())], "Package"),
    ]
    return Section("reproduce", "To reproduce it", [command, Part(tables=tables, notes=notes)])


def rerun_command(record: RunRecord) -> str:
    """Return the command that simulates the run again, without any path of its machine."""
    defaults = RunConfig().flat()
    words = ["python -m simulation run --data COHORT --out RUN"]
    if record.backbone_name != defaults["backbone"]:
        name = record.backbone_name
        words.append(f"--backbone {shlex.quote(name if name in CATALOG else f'path/to/{name}')}")
    for key, value in record.public_settings.items():
        if key not in ("backbone", "resume") and value != defaults.get(key):
            text = str(value).lower() if isinstance(value, bool) else str(value)
            words.append(f"-c {shlex.quote(f'{key}={text}')}")
    rank = record.settings.get("lora.rank")
    for site, about in record.sites.items():
        if about.get("rank", rank) != rank:
            words.append(f"--site {shlex.quote(short(site))}.lora-rank={int(about['rank'])}")
    return " \\\n  ".join(words)


def _digests(record: RunRecord) -> Table:
    evaluation = record.evaluation or {}
    cohort = evaluation.get("cohort") or {}
    digests = [
        ("Frozen backbone", record.adapter.backbone_digest),
        ("Released adapter", record.adapter.digest()),
        *(
            (f"Site table {short(name)}", short(site["sha256"]))
            for name, site in evaluation.get("data", {}).items()
        ),
        *(
            (f"Source table {short(name)}", short(digest))
            for name, digest in cohort.get("inputs", {}).items()
        ),
    ]
    pairs = [(name, drawn("<code>{}</code>", digest)) for name, digest in digests]
    return pairs_table("SHA-256 digests", pairs, "Of")


def _cohort(cohort: Mapping[str, Any]) -> list[Table]:
    """How the cohort was prepared from its source."""
    parameters = [
        (short(name), short(_words(value))) for name, value in cohort.get("parameters", {}).items()
    ]
    if not parameters:
        return []
    source = [("source", short(cohort.get("source", "")))]
    return [pairs_table("How the cohort was prepared", source + parameters, "Parameter")]


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
