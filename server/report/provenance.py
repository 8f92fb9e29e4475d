"""Provenance sections: what was run, and how to reproduce it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from common.backbones.catalog import CATALOG
from common.config.run_config import RunConfig
from common.reporting.components import Part, Row, Section, Table, raw_html
from common.reporting.phrasing import clean_line, count_or_dash
from server.runs.run_folder import SITE_SETTINGS
from server.runs.run_reader import RunRecord


def setup_section(record: RunRecord) -> Section:
    """Return the section of backbone, adapter, sites and settings."""
    settings = [(key, clean_line(value)) for key, value in record.public_settings.items()]
    part = Part(
        tables=[_pairs_table("Model and adapter", _model(record)), _site_table(record)],
        folded_title="All settings",
        folded=[_pairs_table("Settings", settings, "Key")],
    )
    return Section("setup", "What was run", [part])


def _model(record: RunRecord) -> list[tuple[str, str]]:
    backbone, adapter = record.backbone, record.adapter
    name, family = clean_line(record.backbone_name), clean_line(backbone.get("family", ""))
    return [
        ("Backbone", f"{name} ({family}), frozen"),
        ("Backbone parameters", f"{int(backbone.get('parameters', 0)):,}"),
        *(
            (fact.capitalize(), clean_line(text))
            for fact, text in sorted(dict(backbone.get("facts", {})).items())
        ),
        ("Adapter", f"LoRA, rank {adapter.rank}, alpha {adapter.alpha:g}"),
        ("Adapter parameters", f"{adapter.num_parameters:,} in {len(adapter.modules)} layers"),
        ("Rounds", f"{record.trained_rounds} of {record.settings.get('rounds', '?')}"),
        ("Aggregation", clean_line(_aggregation(record))),
        ("Released round", f"{record.best_round}, {_choice_of_round(record)}"),
    ]


def _aggregation(record: RunRecord) -> str:
    """Return the aggregation rule and the server optimizer."""
    config = record.resolved
    rule = f"{config.rule}, weights: {config.weighting}"
    optimizer = config.aggregation.optimizer
    return rule if optimizer == "none" else f"{rule}, server optimizer {optimizer}"


def _choice_of_round(record: RunRecord) -> str:
    return "the best by validation WQL" if record.validation_curve() else "the last"


def _site_table(record: RunRecord) -> Table:
    rows = [
        Row(
            clean_line(name),
            [
                count_or_dash(site.get("patients")),
                count_or_dash(site.get("windows")),
                str(site.get("rank", record.adapter.rank)),
                clean_line(site["source"]),
                clean_line(site["rule"]),
            ],
        )
        for name, site in record.sites.items()
    ]
    header = ["Site", "Training patients", "Training windows", "Rank", "Source", "Cohort rule"]
    return Table("Sites", header, rows, text=True)


_COMMAND = """\
COHORT is a folder of site tables with the digests below, RUN a new folder. Settings that are not
given have their defaults; "What was run" lists them all."""

_DETERMINISM = """\
With these settings, weights, tables and versions, a run with train.threads = 1 ends in the same
adapter, byte for byte, on CPUs of one kind; on others the last digits differ."""


def reproduction_section(record: RunRecord) -> Section:
    """Return the section of the command, digests and versions; an evaluated run has them all."""
    evaluation = record.evaluation or {}
    command = Part(paragraphs=[_COMMAND], code=rerun_command(record))
    notes = [_DETERMINISM]
    if resumed := record.config.get("resumed_after"):
        rounds = ", ".join(str(number) for number in resumed)
        notes.append(
            f"The run was interrupted and resumed after round {rounds}; this changes no byte."
        )
    if evaluation:
        bootstrap = evaluation["bootstrap"]
        notes.append(
            f"Bootstrap: {bootstrap['replicates']:,} replicates over patients, seed "
            f"{bootstrap['seed']}. evaluation.json holds every number of the results."
        )
    versions = {**evaluation.get("versions", {}), **record.config.get("versions", {})}
    packages = [(name, clean_line(version)) for name, version in sorted(versions.items())]
    tables = [
        _digests(record),
        *_cohort(evaluation.get("cohort") or {}),
        _pairs_table("Versions", packages, "Package"),
    ]
    return Section("reproduce", "To reproduce it", [command, Part(tables=tables, notes=notes)])


def rerun_command(record: RunRecord) -> str:
    """Return the command that simulates the run again, without paths of the original machine."""
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
    ranks = {site: about.get("rank", rank) for site, about in record.sites.items()}
    own = {f"{site}.lora-rank": one for site, one in ranks.items() if one != rank}
    own |= record.config.get(SITE_SETTINGS, {})
    words += [f"--site {shlex.quote(clean_line(f'{key}={own[key]}'))}" for key in sorted(own)]
    return " \\\n  ".join(words)


def _digests(record: RunRecord) -> Table:
    evaluation = record.evaluation or {}
    cohort = evaluation.get("cohort") or {}
    digests = [
        ("Frozen backbone", record.adapter.backbone_digest),
        ("Released adapter", record.adapter.digest()),
        *(
            (f"Site table {clean_line(name)}", clean_line(site["sha256"]))
            for name, site in evaluation.get("data", {}).items()
        ),
        *(
            (f"Source table {clean_line(name)}", clean_line(digest))
            for name, digest in cohort.get("inputs", {}).items()
        ),
    ]
    pairs = [(name, raw_html("<code>{}</code>", digest)) for name, digest in digests]
    return _pairs_table("SHA-256 digests", pairs, "Of")


def _cohort(cohort: Mapping[str, Any]) -> list[Table]:
    """Return the parameters with which the cohort was prepared from its source, as a table."""
    parameters = [
        (clean_line(name), clean_line(_joined_if_list(value)))
        for name, value in cohort.get("parameters", {}).items()
    ]
    if not parameters:
        return []
    source = [("source", clean_line(cohort.get("source", "")))]
    return [_pairs_table("How the cohort was prepared", source + parameters, "Parameter")]


def _joined_if_list(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _pairs_table(caption: str, pairs: Sequence[tuple[str, str]], key: str = "What") -> Table:
    """Return a table of two columns of words."""
    return Table(caption, [key, "Value"], [Row(name, [text]) for name, text in pairs], text=True)
