"""Bounding is harmless: no loss grows, no value leaves a range or changes sides of a quantile."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.data.site_table import SiteTableInfo, make_site_table
from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import FloatArray, IntArray, WindowSettings, make_windows, pool_windows
from common.evaluation.evaluate import LEVELS, Forecaster, evaluate
from common.evaluation.metrics import steps_at_or_below, window_totals
from common.forecasting.bounds import bound_forecast
from simulation.cohorts.physionet_challenge import challenge_2019

LOSSES = ("mae", "mse", "mape", "mase", "wql")


@pytest.mark.parametrize("shape", [(), (6,), (6, 9), (6, 200)], ids=len)
def test_points_quantiles_and_samples_end_in_the_range(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    vital = np.arange(len(VITALS))
    wide = np.sort(random.normal(50, 300, (len(VITALS), *shape)).astype(np.float32), axis=-1)
    bounded = bound_forecast(wide, vital)
    for kind, values, before in zip(VITALS, bounded, wide, strict=True):
        assert np.all((values >= kind.low) & (values <= kind.high))
        inside = kind.valid(before)
        np.testing.assert_array_equal(values[inside], before[inside])
    if shape:
        assert (np.diff(bounded, axis=-1) >= 0).all()


def test_missing_stays_missing_and_the_input_is_unchanged() -> None:
    given_ = np.array([[np.nan, 150.0]], np.float32)
    bounded = bound_forecast(given_, np.array([VITAL_NAMES.index("spo2")]))
    np.testing.assert_array_equal(bounded, [[np.nan, 100.0]])
    assert given_[0, 1] == 150.0


@example(vital=VITAL_NAMES.index("spo2"), quantiles=[100.5] * 9, place=1.0)
@example(vital=VITAL_NAMES.index("spo2"), quantiles=[99.0] * 4 + [101.0] * 5, place=1.0)
@given(
    vital=st.integers(0, len(VITALS) - 1),
    quantiles=st.lists(st.floats(-1e4, 1e4, width=32), min_size=9, max_size=9).map(sorted),
    place=st.floats(0.001, 1.0),
)
def test_no_loss_grows_and_no_value_leaves_a_range(
    vital: int, quantiles: list[float], place: float
) -> None:
    """For every forecast and every value that a site table can hold."""
    kind = VITALS[vital]
    value = np.float32(kind.low + place * (kind.high - kind.low))
    if not kind.valid(np.array([value]))[0]:
        value = np.nextafter(np.float32(kind.high), np.float32(kind.low))
    target = np.array([[value]], np.float32)
    context = np.array([[value, value]], np.float32)
    raw = np.array([[quantiles]], np.float32)
    bounded = bound_forecast(raw, np.array([vital]))
    before, after = (
        window_totals(target, q, LEVELS, context, kind.scale_floor, LOSSES).numerator
        for q in (raw, bounded)
    )
    assert (after <= before).all()
    np.testing.assert_array_equal(
        steps_at_or_below(target, bounded), steps_at_or_below(target, raw)
    )
    held, holds = (
        window_totals(target, q, LEVELS, context, 1.0, ["coverage_80"]).numerator.item()
        for q in (raw, bounded)
    )
    only_end = kind.high_included and value == kind.high and quantiles[0] > kind.high
    assert (held, holds) == (0, 1) if only_end else held == holds


def test_a_range_above_all_valid_values_holds_the_highest() -> None:
    """The one change of coverage: SpO2 of 100 % under a range from 100.2 to 101 %."""
    spo2 = VITAL_NAMES.index("spo2")
    raw = np.linspace(100.2, 101.0, 9, dtype=np.float32)[None, None]
    target = np.array([[100.0]], np.float32)
    inside = [
        window_totals(target, quantiles, LEVELS, target, 1.0, ["coverage_80"]).numerator.item()
        for quantiles in (raw, bound_forecast(raw, np.array([spo2])))
    ]
    assert inside == [0, 1]


@dataclass(frozen=True)
class Bounded:
    model: Forecaster

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        return bound_forecast(self.model.forecast(context, vital, horizon_steps), vital)


def test_on_real_patients_no_vital_loses(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "challenge-2019-training_setB-even.tar.xz") as archive:
        records = (member for member in archive if member.name.endswith(".psv"))
        for member in islice(records, 60):
            archive.extract(member, tmp_path, filter="data")
    cohort = challenge_2019(tmp_path, sepsis="none")
    tables = [
        make_site_table(rows, SiteTableInfo(name, "challenge-2019", "all", 60))
        for name, rows in cohort.sites.items()
    ]
    windows = pool_windows(
        {
            f"{table.info.site}-{split}": make_windows(
                table, split, WindowSettings(stride_steps=12), VITAL_NAMES
            )
            for table in tables
            for split in ("train", "validation", "test")
        }
    )
    loaded = load_backbone("chronos-bolt-nano")
    model = ModelForecaster(loaded.backbone, loaded.model)
    raw, bounded = evaluate(windows, model), evaluate(windows, Bounded(model))
    np.testing.assert_array_equal(raw.below, bounded.below)
    for vital in raw.table()["vitals"]:
        assert raw.metric("coverage_80", vital) == bounded.metric("coverage_80", vital)
        for metric in LOSSES:
            assert bounded.metric(metric, vital) <= raw.metric(metric, vital)
    assert bounded.metric("wql", "spo2") < raw.metric("wql", "spo2")
