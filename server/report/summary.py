"""Head and summary of the report: the findings, worded for clinicians."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config.tasks import DEFAULT_METRICS, first_metrics
from common.reporting.components import Part, Row, Section, Table, Tile
from common.reporting.phrasing import (
    BETTER,
    NO_BREAK,
    NOTHING,
    SPLIT_WORDS,
    UNCLEAR,
    UNKNOWN,
    VITAL_LABELS,
    WORSE,
    bounds,
    byte_size,
    clean_line,
    counted,
    duration,
    listed,
    number,
    percent,
    small_number,
    sources_in_words,
    verdict,
)
from server.report.clinical_text import (
    RANGE_ANNOUNCED,
    mean_difference,
    range_in_words,
    vital_errors,
)
from server.report.example_forecasts import SYNTHETIC
from server.runs.run_reader import RunRecord


def title(record: RunRecord) -> str:
    """Return the page's title: the model, the number of sites and the source of their data."""
    sources = sources_in_words(site.get("source", "") for site in record.sites.values())
    sites = counted(len(record.sites), "site")
    return f"{clean_line(record.backbone_name)}, fine-tuned by {sites}" + (
        f" on {sources}" if sources else ""
    )


def headline(record: RunRecord) -> str:
    """Return the sentence below the title."""
    if record.best_round == 0:
        return (
            "No round improved on the untrained adapter: the released adapter forecasts exactly "
            "as the frozen backbone does."
        )
    if record.evaluation is None:
        return "Trained and released; not yet evaluated on test patients."
    return (
        f"On {_evaluated_patients(record.evaluation)}, averaged over the vital signs, "
        f"{mean_error(record.evaluation)}."
    )


def _evaluated_patients(evaluation: Mapping[str, Any]) -> str:
    """Return the patients that were forecast, with the source of their data."""
    sources = {site.get("source", "") for site in evaluation.get("data", {}).values()}
    if sources == {SYNTHETIC}:
        return f"{SYNTHETIC} {evaluation['split']} patients"
    words = sources_in_words(sources)
    return f"{evaluation['split']} patients" + (f" of {words}" if words else "")


def tiles(record: RunRecord) -> list[Tile]:
    """Return the key numbers at the head of the page."""
    traffic = record.traffic()
    first = first_metrics((record.evaluation or {}).get("settings", record.settings))
    return [
        *(_difference_tile(record.evaluation, m, f"{_TILES[m]}, with vs without") for m in first),
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


_TILES = {
    "mae": "Average error (MAE)",
    "wql": "Quantile loss (WQL)",
    "mse": "Squared error (MSE)",
    "mape": "Error in per cent (MAPE)",
    "dtw": "Time-warped error (DTW)",
}


def _difference_tile(evaluation: Mapping[str, Any] | None, metric: str, label: str) -> Tile:
    if evaluation is None:
        return Tile(label, NOTHING, "not evaluated yet")
    relative = evaluation["pooled"]["differences"]["zero_shot"]["mean"][metric]["relative"]
    if verdict(relative) == UNKNOWN:
        note = "too few patients for an interval"
    else:
        note = f"95{NO_BREAK}% interval {bounds(relative)}"
    return Tile(label, percent(relative["estimate"]), note)


_LIMITS = (
    "This is research software: not a medical device, not validated prospectively, and not a basis "
    "for any decision about a patient.",
    "The patients were selected by the cohort's rule, at the sites of this run. Elsewhere the "
    "adapter may forecast worse than the model without it: evaluate it on your own patients first.",
    "A forecast shows what usually follows, treatment included. It does not show what would happen "
    "without treatment, or what a treatment would do.",
    "The intervals are over patients. They do not include the variation between training runs with "
    "other seeds. They are not corrected for looking at several vital signs and sites.",
)

_GLOSSARY = {
    "Adapter": "A small set of numbers added to a frozen model. Only these numbers are trained.",
    "Backbone": "The pretrained forecasting model. It is frozen: no site changes it.",
    "Zero-shot": "The backbone as published, without the adapter.",
    "MAE": "Mean absolute error: how far the central forecast is off on average, in the vital "
    "sign's unit.",
    "WQL": "Weighted quantile loss: the error of the whole forecast, its ranges included, relative "
    "to the size of the measurements. Lower is better.",
    "80 % range": "The range between the levels 10 % and 90 %. It should contain 80 of 100 "
    "measurements.",
    "95 % interval": "The range of results to expect with other patients of the same kind: "
    "patients are drawn at random many times, and 95 % of the results are inside it.",
    "Test patients": "Patients set aside at every site before training. They were not used for it.",
}


def summary_section(record: RunRecord) -> Section:
    """Return the summary: first in plain words, then in statistical terms."""
    evaluation = record.evaluation
    parts = [Part(paragraphs=[_description(record)], warnings=_warnings(record))]
    if evaluation is None:
        parts.append(Part(paragraphs=[_validation(record)]))
    else:
        parts += _plain_findings(evaluation)
    parts.append(Part("What this does not show", items=_LIMITS))
    if evaluation is not None:
        parts.append(Part("In statistical terms", paragraphs=_statistical_findings(evaluation)))
    rows = [Row(word, [meaning]) for word, meaning in _GLOSSARY.items()]
    words = Table("Words", ["Word", "Meaning"], rows, text=True)
    parts.append(Part(folded_title="Words used in this report", folded=[words]))
    return Section("summary", "Summary", parts)


def _description(record: RunRecord) -> str:
    settings = {**record.settings, **(record.evaluation or {}).get("settings", {})}
    context, horizon = (
        duration(record.step_minutes * int(settings[f"windows.{key}"]))
        for key in ("context", "horizon")
    )
    sites = len(record.sites)
    who = f"{small_number(sites)} {'site' if sites == 1 else 'sites'}".capitalize()
    reported = [int(n) for site in record.sites.values() if (n := site.get("patients")) is not None]
    patients = f", with {sum(reported):,} training patients," if len(reported) == sites else ""
    parameters = int(record.backbone.get("parameters", 0))
    share = ""
    if parameters:
        of_all = f"{record.adapter.num_parameters / parameters:.1%}".replace("%", f"{NO_BREAK}%")
        share = f" ({of_all} of the model)"
    return (
        f"The model {clean_line(record.backbone_name)} sees up to {context} of one vital sign of "
        f"an intensive-care patient and forecasts the next {horizon}: a central forecast, with "
        f"ranges around it. {who}{patients} trained an adapter for it in {record.trained_rounds} "
        f"rounds. The sites shared adapters of {record.adapter.num_parameters:,} numbers{share}; "
        f"patient records stayed at the sites. The released adapter is that of round "
        f"{record.best_round}."
    )


_SYNTHETIC_WARNING = """\
The patients of this run are synthetic, generated by a program. The results show that the method
works end to end; they say nothing about real patients."""


def _warnings(record: RunRecord) -> list[str]:
    sources = {str(site["source"]) for site in record.sites.values()}
    if SYNTHETIC not in sources:
        return []
    everywhere = sources == {SYNTHETIC}
    return [_SYNTHETIC_WARNING if everywhere else f"At some sites: {_SYNTHETIC_WARNING}"]


def _validation(record: RunRecord) -> str:
    curve = dict(record.validation_curve())
    first, best = curve.get(0), curve.get(record.best_round)
    if first is None or best is None:
        return "No site validated both the untrained and the released adapter."
    return (
        f"On the sites' validation patients, WQL was {number(first, 4)} before training and "
        f"{number(best, 4)} with the released adapter. The round was chosen by this value, which "
        "is therefore optimistic."
    )


_SIGNIFICANCE = """\
If an interval excludes zero, the difference is more than chance among patients like these. It may
still be too small to matter at the bedside."""


def _plain_findings(evaluation: Mapping[str, Any]) -> list[Part]:
    mean = evaluation["pooled"]["models"]["adapter"]["mean"]
    whom = (
        f"Forecasts were compared with what was measured later, in {mean['patients']:,} "
        f"{SPLIT_WORDS[evaluation['split']]}."
    )
    average = (
        f"Averaged over the vital signs, {mean_error(evaluation)}. {sites_by_verdict(evaluation)}"
    )
    parts = [
        Part("How far off the forecasts are", paragraphs=[whom], items=vital_errors(evaluation)),
        Part(paragraphs=[average, _SIGNIFICANCE]),
    ]
    calibration = evaluation["pooled"].get("calibration")
    if calibration and (sentences := range_in_words(calibration["adapter"])):
        parts.append(
            Part("How reliable the ranges are", [f"{RANGE_ANNOUNCED} {' '.join(sentences)}"])
        )
    return parts


def mean_error(evaluation: Mapping[str, Any]) -> str:
    """Return the change of the mean absolute error, averaged over vitals, without a full stop."""
    interval = evaluation["pooled"]["differences"]["zero_shot"]["mean"]["mae"]["relative"]
    estimate, kind = interval.get("estimate"), verdict(interval)
    if estimate is None:
        return "the errors with and without the adapter cannot be compared"
    if kind == UNKNOWN:
        return (
            "there are too few patients to say whether the adapter changes the forecasts' "
            "average error"
        )
    low, high = interval["low"], interval["high"]
    if kind == UNCLEAR:
        return (
            "the forecasts' average error with the adapter cannot be told apart from that without "
            f"it ({percent(estimate)}, 95{NO_BREAK}% interval {percent(low)} to {percent(high)})"
        )
    near, far = (percent(end, signed=False) for end in sorted((abs(low), abs(high))))
    word = "smaller" if kind == BETTER else "larger"
    return (
        f"the forecasts' average error is {percent(estimate, signed=False)} {word} with the "
        f"adapter than without it (95{NO_BREAK}% interval {near} to {far} {word})"
    )


def sites_by_verdict(evaluation: Mapping[str, Any]) -> str:
    """Return at which sites the error is smaller, larger or neither, as a sentence."""
    groups: dict[str, list[str]] = {}
    for site, result in evaluation["sites"].items():
        interval = result["differences"]["zero_shot"]["mean"]["mae"]["relative"]
        groups.setdefault(verdict(interval), []).append(clean_line(site))
    words = {
        BETTER: "smaller with the adapter at",
        WORSE: "larger with the adapter at",
        UNCLEAR: "not clearly different at",
        UNKNOWN: "not comparable, for lack of patients, at",
    }
    parts = [
        f"{words[kind]} {_listed_or_counted(groups[kind])}" for kind in words if kind in groups
    ]
    return f"Site by site, the average error is {'; '.join(parts)}."


def _listed_or_counted(sites: list[str], most: int = 12) -> str:
    return listed(sites) if len(sites) <= most else f"{len(sites)} sites"


def _statistical_findings(evaluation: Mapping[str, Any]) -> list[str]:
    first = first_metrics(evaluation.get("settings", {}))
    ours = [m for m in first if m not in DEFAULT_METRICS]
    return [
        *(
            f"In the mean over vital signs, the adapter's {mean_difference(evaluation, metric)}. "
            f"{vitals_by_verdict(evaluation, metric)}."
            for metric in ours
        ),
        f"In the mean over vital signs, the adapter's {mean_difference(evaluation, 'wql')}. Its "
        f"{mean_difference(evaluation, 'mae')}.",
        f"{vitals_by_verdict(evaluation, 'wql')}. {vitals_by_verdict(evaluation, 'mae')}.",
        f"Against simple forecasts: its {mean_difference(evaluation, 'wql', 'last_value')}. Its "
        f"{mean_difference(evaluation, 'wql', 'ewm')}.",
    ]


def vitals_by_verdict(
    evaluation: Mapping[str, Any], metric: str, reference: str = "zero_shot"
) -> str:
    """Return for which vitals a metric is lower, higher or neither, without a full stop."""
    vitals = evaluation["pooled"]["differences"][reference]["vitals"]
    groups: dict[str, list[str]] = {}
    for vital, row in vitals.items():
        kind = verdict(row[metric]["relative"])
        groups.setdefault(kind, []).append(VITAL_LABELS[vital].lower())
    words = {
        BETTER: "is below zero for",
        WORSE: "is above zero for",
        UNCLEAR: "includes zero for",
        UNKNOWN: "cannot be given for",
    }
    total = len(vitals)
    parts = [
        f"{words[kind]} "
        + (f"all {total} vital signs" if len(groups[kind]) == total > 1 else listed(groups[kind]))
        for kind in words
        if kind in groups
    ]
    return f"Vital by vital, the interval of {metric.upper()} " + "; it ".join(parts)
