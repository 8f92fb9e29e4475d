from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from server.report.summary import (
    headline,
    mean_error,
    sites_by_verdict,
    summary_section,
    title,
    vitals_by_verdict,
)
from server.runs.run_reader import RunRecord
from tests.server.report.samples import (
    ABOVE,
    AROUND,
    BELOW,
    POINT,
    evaluation,
    interval,
    plain_spaces,
    text_of,
)


def test_the_summary_describes_the_run_and_each_error(record: RunRecord) -> None:
    text = text_of(summary_section(record))
    assert "sees up to 24 hours of one vital sign" in text
    assert "forecasts the next 4 hours" in text
    assert "Three sites, with 33 training patients, trained an adapter for it in 2 rounds" in text
    assert len(re.findall(r"off by \d+\.\d+ \S+", text)) == 7
    assert "Each forecast has a range" in text
    assert "they say nothing about real patients" in text


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        (["synthetic"], "synthetic patients"),
        (["mimic3"], "MIMIC-III"),
        (["challenge-2019"], "PhysioNet Challenge 2019"),
        (["mimic3", "own-export"], "MIMIC-III and the hospitals' own data"),
        (["eicu <b>\nx"], "eicu <b> x"),
    ],
)
def test_the_head_names_the_source(record: RunRecord, sources: list[str], named: str) -> None:
    assert record.evaluation is not None
    for place, site in enumerate(record.config["sites"].values()):
        site["source"] = sources[place % len(sources)]
    for place, site in enumerate(record.evaluation["data"].values()):
        site["source"] = sources[place % len(sources)]
    assert title(record).endswith(f"fine-tuned by 3 sites on {named}")
    patients = (
        "synthetic test patients" if sources == ["synthetic"] else f"test patients of {named}"
    )
    assert headline(record).startswith(f"On {patients}, averaged over the vital signs")
    for site in (*record.config["sites"].values(), *record.evaluation["data"].values()):
        del site["source"]
    assert title(record).endswith("fine-tuned by 3 sites")
    assert headline(record).startswith("On test patients, averaged")


def test_only_synthetic_patients_are_called_so(record: RunRecord) -> None:
    record.config["sites"]["ccu"]["source"] = "mimic3"
    assert "At some sites: The patients of this run are synthetic" in text_of(
        summary_section(record)
    )
    for site in record.config["sites"].values():
        site["source"] = "mimic3"
    assert "synthetic" not in text_of(summary_section(record))


def test_before_an_evaluation_there_is_no_result_on_test_patients(record: RunRecord) -> None:
    untested = replace(record, evaluation=None)
    assert "not yet evaluated" in headline(untested)
    text = text_of(summary_section(untested))
    assert "off by" not in text
    assert "optimistic" in text
    assert "No round improved" in headline(replace(record, best_round=0))


def test_an_evaluation_of_an_older_release_has_no_ranges(record: RunRecord) -> None:
    assert record.evaluation is not None
    del record.evaluation["pooled"]["calibration"]
    assert "Each forecast has a range" not in text_of(summary_section(record))


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            BELOW,
            "the forecasts' average error is 3.00 % smaller with the adapter than without it (95 % "
            "interval 2.00 % to 4.00 % smaller)",
        ),
        (
            ABOVE,
            "the forecasts' average error is 3.00 % larger with the adapter than without it (95 % "
            "interval 2.00 % to 4.00 % larger)",
        ),
        (
            AROUND,
            "the forecasts' average error with the adapter cannot be told apart from that without "
            "it (−3.00 %, 95 % interval −7.00 % to +1.00 %)",  # noqa: RUF001
        ),
        (
            POINT,
            "there are too few patients to say whether the adapter changes the forecasts' average "
            "error",
        ),
        (
            interval(None, None, None),
            "the errors with and without the adapter cannot be compared",
        ),
    ],
)
def test_the_mean_error_is_no_stronger_than_its_interval(
    difference: dict[str, Any], words: str
) -> None:
    assert plain_spaces(mean_error(evaluation(difference))) == words


def test_sites_are_grouped_by_their_verdict() -> None:
    result = evaluation(BELOW, ccu=BELOW, micu=ABOVE, sicu=AROUND, tsicu=POINT, csru=BELOW)
    assert sites_by_verdict(result) == (
        "Site by site, the average error is smaller with the adapter at ccu and csru; larger "
        "with the adapter at micu; not clearly different at sicu; not comparable, for lack of "
        "patients, at tsicu."
    )
    many = evaluation(BELOW, **{f"site{number}": BELOW for number in range(40)})
    assert "at 40 sites." in sites_by_verdict(many)


def test_vitals_are_grouped_by_their_verdict() -> None:
    def differences(**vitals: dict[str, Any]) -> dict[str, Any]:
        rows = {name: {"wql": {"relative": value}} for name, value in vitals.items()}
        return {"pooled": {"differences": {"zero_shot": {"vitals": rows}}}}

    mixed = vitals_by_verdict(differences(sbp=BELOW, dbp=AROUND, spo2=BELOW, mbp=ABOVE), "wql")
    assert mixed == (
        "Vital by vital, the interval of WQL is below zero for systolic blood pressure and "
        "oxygen saturation; it is above zero for mean blood pressure; it includes zero for "
        "diastolic blood pressure"
    )
    same = vitals_by_verdict(differences(sbp=BELOW, dbp=BELOW), "wql")
    assert same.endswith("is below zero for all 2 vital signs")
