"""Counting against a slow reference, one patient at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from client.node.statistics.counts import CUTS, LEAVES, count_patients, leaf_of_band, leaf_of_hour
from common.data.site_table import SiteTable, SiteTableInfo
from common.data.statistics.edges import BINS, EDGES, HOURS, STAY_EDGES_H
from common.data.vitals import VITAL_NAMES


@st.composite
def tables(draw: st.DrawFn) -> SiteTable:
    """A table of a few patients with stays of any length, values near the edges among them."""
    minutes = draw(st.sampled_from([15, 45, 60, 90, 240, 1440]))
    rows: list[dict[str, Any]] = []
    for patient in range(draw(st.integers(1, 4))):
        for stay in range(draw(st.integers(1, 3))):
            length = draw(st.integers(1, 40))
            rng = np.random.default_rng(draw(st.integers(0, 2**16)))
            near = {
                vital: rng.choice(EDGES[vital], length) + rng.choice([-0.5, 0.0, 0.5], length)
                for vital in VITAL_NAMES
            }
            for step in range(length):
                seen = rng.random(len(VITAL_NAMES)) < 0.4
                values = {
                    vital: near[vital][step] if has else np.nan
                    for vital, has in zip(VITAL_NAMES, seen, strict=True)
                }
                rows.append(
                    {
                        "patient_id": f"p{patient}",
                        "stay_id": f"p{patient}s{stay}",
                        "step": step,
                        "split": "train",
                        **values,
                    }
                )
    frame = pd.DataFrame(rows).astype({"step": "int32", **dict.fromkeys(VITAL_NAMES, "float32")})
    return SiteTable(frame, SiteTableInfo("micu", "made up", "all", minutes))


def slowly(table: SiteTable) -> dict[str, Any]:
    """Count one patient, one stay and one hour after another."""
    minutes, frame = table.info.step_minutes, table.frame
    vitals = np.zeros((len(VITAL_NAMES), BINS), int)
    hours = np.zeros((len(VITAL_NAMES), HOURS), int)
    unit, bands = np.zeros(HOURS, int), np.zeros(len(STAY_EDGES_H) + 1, int)
    readmitted = 0
    for _, rows in frame.groupby("patient_id"):
        stays = [one for _, one in rows.groupby("stay_id", sort=False)]
        readmitted += len(stays) > 1
        first = stays[0]
        length = len(first) * minutes
        bands[sum(length >= 60 * edge for edge in STAY_EDGES_H)] += 1
        for hour in range(HOURS):
            unit[hour] += length > 60 * hour
        for index, name in enumerate(VITAL_NAMES):
            values = rows[name].dropna().astype(float)
            if len(values):
                middle = float(np.median(values))
                vitals[index, sum(middle >= edge for edge in EDGES[name])] += 1
            for hour in range(HOURS):
                overlap = [
                    value
                    for step, value in zip(first["step"], first[name], strict=True)
                    if step * minutes < 60 * (hour + 1) and (step + 1) * minutes > 60 * hour
                ]
                hours[index, hour] += any(not np.isnan(value) for value in overlap)
    return {
        "patients": frame["patient_id"].nunique(),
        "stays": frame["stay_id"].nunique(),
        "readmitted": readmitted,
        "vitals": vitals,
        "hours": hours,
        "unit": unit,
        "bands": bands,
    }


@settings(max_examples=25, deadline=None)
@given(tables())
def test_counts_are_those_of_a_slow_reference(table: SiteTable) -> None:
    counts, expected = count_patients(table), slowly(table)
    for name in ("patients", "stays", "readmitted"):
        assert getattr(counts, name) == expected[name]
    assert np.array_equal(counts.vitals, expected["vitals"])
    assert np.array_equal(counts.observed.sum(axis=2), expected["hours"])
    unit = [counts.lengths[leaf_of_hour(hour) :].sum() for hour in range(HOURS)]
    assert unit == list(expected["unit"])
    edges = [leaf_of_band(hours) for hours in (0, *STAY_EDGES_H)]
    assert list(np.add.reduceat(counts.lengths, edges)) == list(expected["bands"])
    # Who has a value in an hour is in the unit then.
    for hour in range(HOURS):
        assert not counts.observed[:, hour, : leaf_of_hour(hour)].any()


def test_the_leaves_separate_every_hour_and_band() -> None:
    assert list(CUTS) == sorted(set(CUTS))
    assert HOURS + len(STAY_EDGES_H) == LEAVES


@given(tables(), st.integers(0, 4))
@settings(max_examples=10, deadline=None)
def test_age_and_sex_are_those_of_the_table_s_patients(table: SiteTable, known: int) -> None:
    ids = sorted(table.frame["patient_id"].unique())[:known]
    described = pd.DataFrame(
        {"patient_id": [*ids, "elsewhere"], "age_band": ["45-64"] * len(ids) + ["80+"]}
    )
    described["sex"] = ["female"] * len(ids) + ["male"]
    counts = count_patients(table, described)
    if not ids:
        assert counts.age is None
        assert counts.sex is None
        return
    assert counts.age is not None
    assert counts.sex is not None
    assert list(counts.age) == [0, len(ids), 0, 0]
    assert list(counts.sex) == [len(ids), 0, counts.patients - len(ids)]
