"""All studies on one cohort, reduced to half an hour or in full, with one page of links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from common.backbones.catalog import packaged_backbones
from common.config.run_config import RunConfig, Value
from common.data.cohort_folder import site_table_paths
from common.files.atomic_io import write_text
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
from common.reporting.export.export import check_export_folder
from simulation.experiments.defaults import FULL_RATE
from simulation.experiments.experiment import Study
from simulation.experiments.output.html import PAGE_FILE
from simulation.experiments.run_experiment import StudyResult, run_study
from simulation.experiments.studies import (
    aggregation,
    backbones,
    comparison,
    privacy,
    ranks,
    sites,
)

REDUCED: dict[str, Value] = {
    "rounds": 3,
    "train.steps": 10,
    "windows.stride": 12,
    "windows.vitals": "heart_rate,mbp",
}
"""Settings that make every run small; settings given with -c take precedence."""


def reproduce_all(
    config: RunConfig,
    seeds: Sequence[int],
    out: Path,
    *,
    full: bool,
    pairs: Sequence[str],
    console: Console,
    on_result: Callable[[StudyResult], None],
    export: Path | None = None,
) -> Path:
    """Run every study and write a page that links to each; return its path.

    Args:
        config: the settings that all share.
        seeds: at least one.
        out: the folder that experiments share.
        full: False for the reduced form.
        pairs: the settings given with ``-c``, for the commands on the pages.
        console: where progress is shown.
        on_result: called with each finished study.
        export: folder for the tables and figures of each study's page, in a folder of its name.
    """
    studies = _studies(config, full=full)
    if export is not None:
        for study, _ in studies:
            check_export_folder(export / study.command.split()[-1])
    results = []
    for study, options in studies:
        name = study.command.split()[-1]
        result = run_study(
            study,
            config,
            seeds,
            out,
            options=options,
            pairs=pairs,
            console=console,
            export=export and export / name,
        )
        on_result(result)
        results.append(result)
    write_text(out / PAGE_FILE, render_page(_page(results, config, full=full)))
    return out / PAGE_FILE


def _studies(config: RunConfig, *, full: bool) -> list[tuple[Study, dict[str, Any]]]:
    """Return the studies in their order, each with its options."""
    packaged = packaged_backbones()
    compared = packaged if config.backbone in packaged else [config.backbone]
    return [
        (comparison.STUDY, {"full_rate": FULL_RATE}),
        (aggregation.STUDY, {}),
        (ranks.STUDY, {} if full else {"ranks": ranks.possible_ranks(config, (1, 8, 32))}),
        (sites.STUDY, {"counts": list(sites.COUNTS) if full else [2, 5]}),
        (privacy.STUDY, {"epsilons": list(privacy.EPSILONS) if full else [10.0, 1.0]}),
        (backbones.STUDY, {"backbones": compared}),
    ]


def _page(results: Sequence[StudyResult], config: RunConfig, *, full: bool) -> Page:
    rows = [
        Row(
            result.experiment.title,
            [
                raw_html('<a href="{0}/index.html">{0}</a>', result.experiment.name),
                result.summary.headline,
            ],
        )
        for result in results
    ]
    table = Table(
        "Each with its page, tables and figures", ["", "Page", "Finding"], rows, text=True
    )
    small = ", ".join(f"{key} = {value}" for key, value in REDUCED.items())
    note = (
        "In full."
        if full
        else f"In reduced form ({small}): the figures show the procedure, not the result."
    )
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
            Tile("Experiments", str(len(results)), "one page each"),
        ],
        sections=[Section("list", "Findings", [Part(tables=[table])])],
    )
