"""The head of the report and its summary: what was found, in words that a clinician reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.reporting.components import Part, Row, Section, Table, Tile, short
from common.reporting.phrasing import (
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
from server.report.clinical_text import (
    RANGE_ANNOUNCED,
    duration,
    mean_error,
    range_in_words,
    sites_in_words,
    small_number,
    vital_errors,
)
from server.report.example_forecasts import SYNTHETIC
from server.runs.run_reader import RunRecord

_MATTERS = """\
Where an interval leaves out zero, the difference is more than chance among patients like these. It
does not follow that it is large enough to matter at the bedside."""

_NOT_SAID = (
    "It is research software: not a medical device, not validated prospectively, and no decision "
    "about a patient may rest on it.",
    "The patients were chosen by the cohort's rule, at the sites of this run. Elsewhere the "
    "adapter may forecast worse than the model without it: evaluate it on your own patients first.",
    "A forecast says what usually follows, treatment included. It does not say what would happen "
    "without treatment, or what a treatment would do.",
    "The intervals are over patients. Another training run, with another seed, would differ too; "
    "how much is not in them. Nothing is corrected for looking at several vital signs and sites.",
)

_SYNTHETIC = """\
The patients of this run are synthetic, made by a program. Its figures show that the method works
end to end; they say nothing about real patients."""

_WORDS = {
    "Adapter": "A small set of numbers that is added to a frozen model and alone is trained.",
    "Backbone": "The ready-made forecasting model. It is frozen: no site changes it.",
    "Zero-shot": "The backbone as it came, without the adapter.",
    "MAE": "Mean absolute error: how far the middle course is off on average, in the vital's unit.",
    "WQL": "Weighted quantile loss: how far off the whole forecast is, its ranges included, in "
    "shares of the vital's size. Lower is better.",
    "80 % range": "The range between the levels 10 % and 90 %: 80 of 100 measurements should lie "
    "in it.",
    "95 % interval": "What the figure would be with other patients of the same kind: patients are "
    "drawn again and again, and 95 % of the draws lie inside.",
    "Test patients": "Patients set aside at every site before training. They had no part in it.",
}


def summary_section(record: RunRecord) -> Section:
    """Return the summary: plain words first, the statistics' own after them."""
    evaluation = record.evaluation
    parts = [Part(paragraphs=[_what(record)], warnings=_warnings(record))]
    if evaluation is None:
        parts.append(Part(paragraphs=[_validation(record)]))
    else:
        parts += _plain(evaluation)
    parts.append(Part("What this does not say", items=_NOT_SAID))
    if evaluation is not None:
        parts.append(Part("In the terms of statistics", paragraphs=_findings(evaluation)))
    words = Table("Words", ["Word", "Meaning"], [Row(k, [v]) for k, v in _WORDS.items()], text=True)
    parts.append(Part(folded_title="Words used in this report", folded=[words]))
    return Section("summary", "Summary", parts)


def headline(record: RunRecord) -> str:
    """Return the one sentence that stands below the title."""
    if record.best_round == 0:
        return (
            "No round improved on the untrained adapter: what is released forecasts exactly as "
            "the frozen backbone does."
        )
    if record.evaluation is None:
        return "Trained and released; not yet evaluated on test patients."
    return (
        f"On {record.evaluation['split']} patients, averaged over the vital signs, "
        f"{mean_error(record.evaluation)}."
    )


def tiles(record: RunRecord) -> list[Tile]:
    """Return the figures of the head."""
    traffic = record.traffic()
    return [
        _difference_tile(record.evaluation, "mae", "Average error (MAE), with vs without"),
        _difference_tile(record.evaluation, "wql", "Quantile loss (WQL), with vs without"),
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


def _difference_tile(evaluation: Mapping[str, Any] | None, metric: str, label: str) -> Tile:
    if evaluation is None:
        return Tile(label, NOTHING, "not evaluated yet")
    relative = evaluation["pooled"]["differences"]["zero_shot"]["mean"][metric]["relative"]
    without = verdict(relative) == UNKNOWN
    note = (
        "too few patients for an interval"
        if without
        else f"95{NO_BREAK}% interval {bounds(relative)}"
    )
    return Tile(label, percent(relative["estimate"]), note)


def _what(record: RunRecord) -> str:
    settings = {**record.settings, **(record.evaluation or {}).get("settings", {})}
    seen, ahead = (
        duration(record.step_minutes * int(settings[f"windows.{key}"]))
        for key in ("context", "horizon")
    )
    sites = len(record.sites)
    told = [int(n) for site in record.sites.values() if (n := site.get("patients")) is not None]
    patients = f", with {sum(told):,} training patients," if len(told) == sites else ""
    parameters = int(record.backbone.get("parameters", 0))
    share = ""
    if parameters:
        of_all = f"{record.adapter.num_parameters / parameters:.1%}".replace("%", f"{NO_BREAK}%")
        share = f" ({of_all} of the model)"
    who = f"{small_number(sites)} {'site' if sites == 1 else 'sites'}".capitalize()
    return (
        f"The model {short(record.backbone_name)} looks at up to {seen} of one vital sign of an "
        f"intensive-care patient and forecasts the next {ahead}: a middle course, and ranges "
        f"around it. {who}{patients} adapted it in {record.trained_rounds} rounds. What they "
        f"shared are adapters of {record.adapter.num_parameters:,} numbers{share}; records of "
        f"patients stayed where they were. The released adapter is of round {record.best_round}."
    )


def _warnings(record: RunRecord) -> list[str]:
    sources = {str(site["source"]) for site in record.sites.values()}
    if SYNTHETIC not in sources:
        return []
    return [_SYNTHETIC] if sources == {SYNTHETIC} else [f"At some sites: {_SYNTHETIC}"]


def _plain(evaluation: Mapping[str, Any]) -> list[Part]:
    mean = evaluation["pooled"]["models"]["adapter"]["mean"]
    names = {site: short(site) for site in evaluation["sites"]}
    whom = (
        f"Forecasts were compared with what was measured later, in {mean['patients']:,} "
        f"{SPLIT_WORDS[evaluation['split']]}."
    )
    error = mean_error(evaluation)
    parts = [
        Part(
            "How far off the forecasts are",
            paragraphs=[whom],
            items=vital_errors(evaluation),
        ),
        Part(
            paragraphs=[
                f"Averaged over the vital signs, {error}. {sites_in_words(evaluation, names)}",
                _MATTERS,
            ]
        ),
    ]
    calibration = evaluation["pooled"].get("calibration")
    if calibration and (held := range_in_words(calibration["adapter"])):
        parts.append(
            Part("How far the ranges can be trusted", [f"{RANGE_ANNOUNCED} {' '.join(held)}"])
        )
    return parts


def _findings(evaluation: Mapping[str, Any]) -> list[str]:
    return [
        f"In the mean over vital signs, the adapter's {mean_finding(evaluation, 'wql')}. Its "
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
