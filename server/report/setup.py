"""The sections of what was run, and of what it takes to run it again."""

from __future__ import annotations

from server.report.page import Part, Row, Section, Table, short
from server.run_record import RunRecord
from server.wording import count


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
        tables=[_pairs("Model and adapter", model), Table("Sites", header, sites, text=True)],
        folded_title="All settings",
        folded=[
            _pairs("Settings", [(k, short(v)) for k, v in record.public_settings.items()], "Key")
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


def reproduction_section(record: RunRecord) -> Section:
    """Return the section of digests and versions."""
    digests = [
        ("Frozen backbone", record.adapter.backbone_digest),
        ("Released adapter", record.adapter.digest()),
    ]
    evaluation = record.evaluation or {}
    digests += [
        (f"Site table {short(name)}", short(site["sha256"]))
        for name, site in evaluation.get("data", {}).items()
    ]
    versions = {**evaluation.get("versions", {}), **record.config.get("versions", {})}
    tables = [
        _pairs("SHA-256 digests", digests, "Of"),
        _pairs("Versions", [(k, short(v)) for k, v in sorted(versions.items())], "Package"),
    ]
    notes = [
        "With these settings, weights, tables and versions a run with train.threads = 1 ends in "
        "the same adapter, byte for byte, on CPUs of one kind; on others the last digits differ."
    ]
    if resumed := record.config.get("resumed_after"):
        rounds = ", ".join(str(number) for number in resumed)
        notes.append(f"The run was cut off and resumed after round {rounds}; that changes no byte.")
    if evaluation:
        bootstrap = evaluation["bootstrap"]
        notes.append(
            f"Bootstrap: {bootstrap['replicates']:,} replicates over patients, seed "
            f"{bootstrap['seed']}. evaluation.json holds every figure of the results."
        )
    return Section("reproduce", "To reproduce it", [Part(tables=tables, notes=notes)])


def _pairs(caption: str, pairs: list[tuple[str, str]], key: str = "What") -> Table:
    return Table(caption, [key, "Value"], [Row(name, [text]) for name, text in pairs], text=True)
