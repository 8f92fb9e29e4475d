"""The report as a whole: its head, its summary in words, and the sections in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from server.examples import Example
from server.report.exchange import exchange_section, refusals_section
from server.report.forecasts import forecasts_section
from server.report.learning import learning_section
from server.report.page import Page, Part, Section, Tile, render_page, short
from server.report.privacy import privacy_section
from server.report.results import results_section
from server.report.setup import reproduction_section, setup_section
from server.run_record import RunRecord
from server.wording import (
    NO_BREAK,
    NOTHING,
    SPLIT_WORDS,
    UNKNOWN,
    bounds,
    byte_size,
    mean_finding,
    number,
    percent,
    verdict,
    vitals_by_verdict,
)


def render_report(record: RunRecord, examples: Sequence[Example] = ()) -> str:
    """Return the report as one HTML page that loads nothing.

    Args:
        record: the run.
        examples: forecasts to show; they hold values of patients.
    """
    evaluated = record.evaluation is not None
    sections = [
        _summary(record),
        results_section(record.evaluation),
        forecasts_section(examples, record.step_minutes, evaluated=evaluated),
        learning_section(record),
        exchange_section(record),
        privacy_section(record),
        refusals_section(record),
        setup_section(record),
        reproduction_section(record),
    ]
    sites = len(record.sites)
    page = Page(
        title=f"{short(record.backbone_name)}, fine-tuned by {sites} "
        f"{'site' if sites == 1 else 'sites'}",
        headline=_headline(record),
        tiles=_tiles(record),
        sections=[section for section in sections if section is not None],
    )
    return render_page(page)


def _headline(record: RunRecord) -> str:
    if record.best_round == 0:
        return (
            "No round improved on the untrained adapter: what is released forecasts exactly as "
            "the frozen backbone does."
        )
    if record.evaluation is None:
        return "Trained and released; not yet evaluated on test patients."
    return (
        f"On {record.evaluation['split']} patients and in the mean over vital signs, the adapter's "
        f"{mean_finding(record.evaluation, 'wql')}."
    )


def _summary(record: RunRecord) -> Section:
    told = [int(n) for site in record.sites.values() if (n := site.get("patients")) is not None]
    kept = len(told) < len(record.sites)
    patients = "" if kept else f" with {sum(told):,} training patients"
    parameters = int(record.backbone.get("parameters", 0))
    share = ""
    if parameters:
        of_all = f"{record.adapter.num_parameters / parameters:.1%}".replace("%", f"{NO_BREAK}%")
        share = f" ({of_all} of the backbone)"
    what = (
        f"{len(record.sites)} sites{patients} fine-tuned the frozen "
        f"{short(record.backbone_name)} together in {record.trained_rounds} rounds. What they "
        f"shared are adapters of {record.adapter.num_parameters:,} numbers{share}; records of "
        f"patients stayed where they were. The released one is of round {record.best_round}."
    )
    findings = _findings(record.evaluation) if record.evaluation else [_validation(record)]
    return Section("summary", "Summary", [Part(paragraphs=[what, *findings])])


def _findings(evaluation: Mapping[str, Any]) -> list[str]:
    mean = evaluation["pooled"]["models"]["adapter"]["mean"]
    return [
        f"It was evaluated on {mean['patients']:,} {SPLIT_WORDS[evaluation['split']]}. In the "
        f"mean over vital signs, its {mean_finding(evaluation, 'wql')}. Its "
        f"{mean_finding(evaluation, 'mae')}.",
        f"{vitals_by_verdict(evaluation, 'wql')}. {vitals_by_verdict(evaluation, 'mae')}.",
        f"Against simple forecasts: its {mean_finding(evaluation, 'wql', 'last_value')}. Its "
        f"{mean_finding(evaluation, 'wql', 'ewm')}.",
    ]


def _validation(record: RunRecord) -> str:
    curve = dict(record.validation_curve())
    first, best = curve.get(0), curve.get(record.best_round)
    if first is None or best is None:
        return "No site validated both the untrained and the released adapter."
    return (
        f"On the sites' validation patients, WQL was {number(first, 4)} before training and "
        f"{number(best, 4)} with the released adapter. The round was chosen by this very figure, "
        "which is therefore optimistic."
    )


def _tiles(record: RunRecord) -> list[Tile]:
    traffic = record.traffic()
    return [
        *(_difference_tile(record.evaluation, metric) for metric in ("wql", "mae")),
        Tile(
            "Trained numbers",
            f"{record.adapter.num_parameters:,}",
            f"beside {int(record.backbone.get('parameters', 0)):,} frozen ones",
        ),
        Tile(
            "Adapters exchanged",
            byte_size(traffic.total),
            f"full fine-tuning: {byte_size(traffic.full)}" if traffic.full else "both ways",
        ),
    ]


def _difference_tile(evaluation: Mapping[str, Any] | None, metric: str) -> Tile:
    label = f"{metric.upper()}, adapter vs zero-shot"
    if evaluation is None:
        return Tile(label, NOTHING, "not evaluated yet")
    relative = evaluation["pooled"]["differences"]["zero_shot"]["mean"][metric]["relative"]
    without = verdict(relative) == UNKNOWN
    note = (
        "too few patients for an interval" if without else f"95\u00a0% interval {bounds(relative)}"
    )
    return Tile(label, percent(relative["estimate"]), note)
