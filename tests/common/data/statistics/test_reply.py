"""Validation of a reply, which is untrusted: every type, length, range and sum."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.data.statistics.edges import BINS, EDGES, HOURS, bin_labels
from common.data.statistics.reply import (
    MAX_CHARACTERS,
    SiteStatistics,
    parse_site_statistics,
    parse_statistics,
)
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import StatisticsError

EXACT: dict[str, Any] = {
    "threshold": 10,
    "privacy": None,
    "source": "own data",
    "rule": "adults",
    "step_minutes": 60,
    "patients": 100,
    "stays": 110,
    "vitals": {name: {"patients": 100, "counts": [0] * 14 + [100]} for name in VITAL_NAMES},
    "missing": {
        name: {"observed": [50] * HOURS, "patients": [100] * HOURS} for name in VITAL_NAMES
    },
    "stay_hours": [0, 0, 0, 0, 0, 100],
    "age": "not recorded",
    "sex": "not recorded",
}
NOISY = {
    **EXACT,
    "stays": None,
    "privacy": {
        "epsilon": 1.0,
        "delta": 1e-5,
        "noise": {"vitals": 3.0, "missing": 4.0, "stay_hours": 2.0},
    },
}


def changed(site: dict[str, Any], change: Callable[[dict[str, Any]], object]) -> str:
    other = deepcopy(site)
    change(other)
    return json.dumps(other)


def test_a_valid_reply_is_returned_as_plain_values() -> None:
    assert parse_site_statistics(json.dumps(EXACT)) == EXACT
    assert parse_site_statistics(json.dumps(NOISY)) == NOISY
    text = SiteStatistics.model_validate(EXACT).text()
    assert SiteStatistics.model_validate(json.loads(text)).text() == text


def put(*path: Any, to: Any) -> Callable[[dict[str, Any]], object]:
    def change(site: dict[str, Any]) -> None:
        at: Any = site
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = to

    return change


WRONG = {
    "bool": put("patients", to=True),
    "float": put("patients", to=100.0),
    "text": put("stay_hours", 5, to="100"),
    "small": put("stay_hours", 0, to=9),
    "small patients": put("patients", to=9),
    "negative": put("vitals", "sbp", "counts", 0, to=-1),
    "huge": put("stays", to=10**12),
    "short": put("stay_hours", to=[100]),
    "long": put("missing", "sbp", "observed", to=[50] * 25),
    "deep": put("stay_hours", 0, to=[[[1]]]),
    "more than all": put("vitals", "sbp", "patients", to=101),
    "bins of more": put("vitals", "sbp", "counts", 0, to=50),
    "bins of fewer": put("vitals", "sbp", "counts", 14, to=90),
    "observed of more": put("missing", "sbp", "observed", 0, to=120),
    "observed of nobody": put("missing", "sbp", "patients", 0, to=None),
    "unknown vital": put("vitals", "lactate", to={"patients": 100, "counts": [100] + [0] * 14}),
    "unknown key": put("names", to=["Meier"]),
    "threshold": put("threshold", to=1),
    "step": put("step_minutes", to=0),
    "source": put("source", to="a\nb"),
    "rule": put("rule", to="x" * 201),
    "age": put("age", to="unknown"),
    "ages": put("age", to=[100]),
    "sexes": put("sex", to={"male": 50, "female": 50, "unknown": 0}),
    "privacy": put("privacy", to={"epsilon": 1.0}),
    "lacks": lambda site: site.pop("missing"),
    "lacks a vital": lambda site: site["vitals"].pop("sbp"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(StatisticsError, match="the statistics are not valid: ") as told:
        parse_site_statistics(changed(EXACT, WRONG[name]))
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


@pytest.mark.parametrize(
    "change",
    [
        put("stays", to=110),
        put("privacy", "epsilon", to=0.0),
        put("privacy", "delta", to=1.0),
        put("privacy", "noise", to={"vitals": 3.0}),
        put("privacy", "noise", "vitals", to=-1.0),
        put("privacy", "noise", "age", to=1.0),
        put("patients", to=-(10**9)),
    ],
)
def test_a_wrong_statement_of_noise_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(StatisticsError):
        parse_site_statistics(changed(NOISY, change))


def test_under_noise_counts_may_be_small_negative_or_more_than_all() -> None:
    text = changed(NOISY, put("vitals", "sbp", "counts", 0, to=-7))
    assert parse_site_statistics(text)["vitals"]["sbp"]["counts"][0] == -7
    parse_site_statistics(changed(NOISY, put("missing", "sbp", "observed", 0, to=120)))


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "[]",
        "nothing",
        "[" * 5000,
        json.dumps(EXACT).replace("110", "NaN"),
        json.dumps(EXACT).replace("110", "Infinity"),
        json.dumps(EXACT)[:-1] + ', "patients": 100}',
        json.dumps(EXACT) + " " * MAX_CHARACTERS,
        '{"a":' * 3000,
    ],
)
def test_what_is_no_such_text_is_refused(text: object) -> None:
    with pytest.raises(StatisticsError):
        parse_site_statistics(text)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists))
def test_any_json_raises_nothing_else(value: Any) -> None:
    with pytest.raises(StatisticsError):
        parse_site_statistics(json.dumps({**EXACT, "stay_hours": value}))


def test_the_whole_file_is_validated_too() -> None:
    record = {
        "version": 1,
        "fedvitals": "0.1.0",
        "created": "2026-01-01T00:00:00+00:00",
        "sites": {"micu": EXACT},
        "refused": {"ccu": "no reply in time", "node 7": "its key"},
    }
    assert parse_statistics(json.dumps(record)) == record
    for change in (
        put("version", to=2),
        put("sites", "<script>", to=EXACT),
        put("sites", "micu", "patients", to=3),
        put("refused", "a b", to="why"),
    ):
        with pytest.raises(StatisticsError):
            parse_statistics(changed(record, change))


def test_edges_are_inside_the_valid_range_and_increase() -> None:
    for vital in VITALS:
        edges = EDGES[vital.name]
        assert np.all(np.diff(edges) > 0)
        assert vital.low < edges[0]
        assert edges[-1] < vital.high
        assert len(set(bin_labels(vital.name))) == BINS
    assert bin_labels("heart_rate")[:2] == ("<40", "40-50")
