"""The section of what was run: model, adapter, sites and settings."""

from __future__ import annotations

from collections.abc import Sequence

from common.reporting.components import Part, Row, Section, Table, short
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
