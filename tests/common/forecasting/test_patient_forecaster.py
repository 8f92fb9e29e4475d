"""Answers to a ward: a forecast, NaN with a reason, or one line about the table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from common.adapter.peft_io import save_peft_folder
from common.backbones.base import ModelForecaster
from common.backbones.lora import adapted_backbone
from common.config.run_config import LoraConfig
from common.data.vitals import VITAL_NAMES, VITALS
from common.errors import AdapterError, UsageError
from common.evaluation.evaluate import LEVELS
from common.forecasting.forecast_table import QUANTILE_COLUMNS
from common.forecasting.patient_forecaster import PatientForecaster, load_forecaster
from common.forecasting.series_checks import EnoughObserved
from common.forecasting.unit_checks import OTHER_UNITS
from tests.common.forecasting.wards import STEPS, TypicalValues, context_of, ward

FORECASTER = PatientForecaster(TypicalValues())
Change = Callable[[pd.DataFrame], object]


def changed(vital: str, change: Callable[[pd.Series], Any], patient: str | None = "p1") -> Change:
    """Return a change of one vital sign of one patient, or of all."""

    def apply(rows: pd.DataFrame) -> None:
        whose = rows["patient_id"] == patient if patient else rows["patient_id"].notna()
        rows.loc[whose, vital] = change(rows.loc[whose, vital])

    return apply


def set_last(vital: str, value: float) -> Change:
    def apply(rows: pd.DataFrame) -> None:
        rows.loc[(rows["patient_id"] == "p1") & (rows["step"] == STEPS - 1), vital] = value

    return apply


def only(steps: range) -> Callable[[pd.Series], Any]:
    """Keep the values of these steps of one patient."""
    return lambda values: values.where(np.isin(np.arange(len(values)), steps))


SERIES: list[tuple[str, Change, str]] = [
    ("heart_rate", changed("heart_rate", lambda _: np.nan), "no observed value in the last 48 h"),
    ("heart_rate", changed("heart_rate", only(range(47, 48))), "1 observed value in the last 48 h"),
    (
        "heart_rate",
        changed("heart_rate", only(range(41, 48))),
        "7 observed values in the last 48 h",
    ),
    ("heart_rate", changed("heart_rate", only(range(42))), "the last observed value is 6 h old"),
    ("heart_rate", set_last("heart_rate", np.inf), "heart_rate holds infinity"),
    ("heart_rate", set_last("heart_rate", -np.inf), "heart_rate holds infinity"),
    ("heart_rate", set_last("heart_rate", 999), "heart_rate 999 is outside 0 < x < 300 bpm"),
    ("heart_rate", set_last("heart_rate", 0), "heart_rate 0 is outside"),
    ("spo2", set_last("spo2", 101), "spo2 101 is outside 0 < x <= 100 %"),
    ("spo2", changed("spo2", lambda v: v / 100), "looks like a fraction"),
    ("temperature_c", changed("temperature_c", lambda v: 1.8 * v + 32), "looks like °F"),
    ("temperature_c", set_last("temperature_c", 98.6), "temperature_c 98.6 looks like °F"),
    ("temperature_c", changed("temperature_c", lambda v: v + 273.15), "looks like K"),
    ("sbp", changed("sbp", lambda v: v / 7.50062), "looks like kPa"),
    ("dbp", changed("dbp", lambda v: v / 7.50062), "looks like kPa"),
    ("mbp", changed("mbp", lambda v: v / 7.50062), "looks like kPa"),
    ("heart_rate", changed("heart_rate", lambda v: v / 60), "looks like beats per second"),
    ("resp_rate", changed("resp_rate", lambda v: v / 60), "looks like breaths per second"),
]


@pytest.mark.parametrize(("vital", "change", "reason"), SERIES, ids=[s[2] for s in SERIES])
def test_a_bad_series_has_a_reason_and_stops_no_other(
    vital: str, change: Change, reason: str
) -> None:
    rows = ward()
    change(rows)
    table = FORECASTER.forecast(rows).table
    bad = (table["patient_id"] == "p1") & (table["vital"] == vital)
    assert table.loc[bad, "reason"].str.contains(reason, regex=False).all()
    assert table.loc[bad, list(QUANTILE_COLUMNS)].isna().all(axis=None)
    assert (table.loc[~bad, "reason"] == "").all()
    assert table.loc[~bad, list(QUANTILE_COLUMNS)].notna().all(axis=None)


TABLES: list[tuple[str, Change, str]] = [
    (vital, changed(vital, change, None), message)
    for vital, change, message in (
        ("temperature_c", lambda v: 1.8 * v + 32, "looks like °F: convert to °C"),
        ("spo2", lambda v: v / 100, "looks like a fraction: convert to %"),
        ("sbp", lambda v: v / 7.50062, "looks like kPa: convert to mmHg"),
        ("sbp", lambda v: v - 70, "mmHg below dbp: are they exchanged?"),
    )
]


@pytest.mark.parametrize(("vital", "change", "message"), TABLES, ids=[t[2] for t in TABLES])
def test_a_fault_of_the_whole_column_stops_the_forecast(
    vital: str, change: Change, message: str
) -> None:
    rows = ward()
    change(rows)
    with pytest.raises(UsageError, match=r"in 3 of 3 patients with") as error:
        FORECASTER.forecast(rows)
    assert message in str(error.value)


def test_exchanged_pressures_of_one_patient_refuse_both() -> None:
    rows = ward()
    of = rows["patient_id"] == "p1"
    rows.loc[of, ["sbp", "dbp"]] = rows.loc[of, ["dbp", "sbp"]].to_numpy()
    refused = FORECASTER.forecast(rows).refused()
    assert refused[["patient_id", "vital"]].to_numpy().tolist() == [["p1", "sbp"], ["p1", "dbp"]]


def test_patients_in_the_proper_units_are_not_suspected() -> None:
    """Septic shock, hypothermia and fever, as single values and as medians."""
    extreme = {
        "heart_rate": (25, 240),
        "sbp": (45, 260),
        "dbp": (18, 150),
        "mbp": (25, 190),
        "resp_rate": (4, 60),
        "temperature_c": (28, 42.5),
        "spo2": (45, 100),
    }
    assert set(extreme) == set(OTHER_UNITS) == set(VITAL_NAMES)
    for vital, values in extreme.items():
        for value in values:
            context = np.full((1, STEPS), value, np.float32)
            assert FORECASTER.forecast_contexts(context, vital).reasons == ("",), (vital, value)


def renamed(old: str, new: str) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda rows: rows.rename(columns={old: new})


WRONG_TABLES: list[tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = [
    (renamed("temperature_c", "temperature"), "unknown column 'temperature'; did you mean 'temp"),
    (renamed("patient_id", "id"), "no column patient_id"),
    (renamed("step", "hour"), "no column step"),
    (lambda rows: rows[["patient_id", "step"]], "no vital sign"),
    (lambda rows: rows.head(0), "no rows"),
    (lambda rows: rows.astype({"heart_rate": str}), "convert it to numbers"),
    (lambda rows: rows.assign(heart_rate=True), "heart_rate is bool"),
    (lambda rows: rows.assign(step=rows["step"] + 0.5), "not whole"),
    (lambda rows: rows.assign(step=np.inf), "not whole"),
    (lambda rows: rows.assign(step="3"), "give whole numbers"),
    (lambda rows: rows.assign(patient_id=None), "patient_id is absent in row 0"),
    (lambda rows: pd.concat([rows, rows[["sbp"]]], axis=1), "'sbp' occurs twice"),
]


@pytest.mark.parametrize(("change", "message"), WRONG_TABLES, ids=[t[1] for t in WRONG_TABLES])
def test_a_table_that_is_none_is_refused_in_one_line(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        FORECASTER.forecast(change(ward()))
    assert message in str(error.value)


def test_the_table_has_a_row_for_each_step_and_says_its_units() -> None:
    rows = ward(2)
    rows.loc[rows["step"] >= STEPS - 2, "mbp"] = np.nan
    table = PatientForecaster(TypicalValues(10.0), horizon_steps=4, step_minutes=30).forecast(
        rows.sample(frac=1, random_state=0)  # rows may be in any order
    )
    one = table.table.query("patient_id == 'p1' and vital == 'mbp'")
    assert one["step"].tolist() == [1, 2, 3, 4]
    assert one["minutes"].tolist() == [30, 60, 90, 120]
    assert one["minutes_since_observed"].tolist() == [60] * 4
    assert one["unit"].unique().tolist() == ["mmHg"]
    assert one["q50"].tolist() == [78.0] * 4
    assert len(table.table) == 2 * len(VITALS) * 4
    assert len(QUANTILE_COLUMNS) == len(LEVELS)
    assert (table.table["q90"] <= [v.high for v in VITALS for _ in range(4)] * 2).all()


def test_quantiles_are_within_the_range_of_the_vital() -> None:
    forecasts = PatientForecaster(TypicalValues(1000.0)).forecast(ward(1))
    for vital, quantiles in zip(VITALS, forecasts.quantiles, strict=True):
        assert (quantiles.min(), quantiles.max()) == (vital.low, vital.high)


def test_one_history_of_any_length_and_with_gaps_is_one_context() -> None:
    rows = ward(1)
    longer = pd.concat([rows.assign(step=rows["step"] + 48), rows.assign(heart_rate=200.0)])
    forecasts = FORECASTER.forecast(longer)
    np.testing.assert_array_equal(forecasts.context, FORECASTER.forecast(rows).context)
    gap = FORECASTER.forecast(rows[rows["step"] % 2 == 1])
    assert np.isnan(gap.context[:, ::2]).all()
    assert gap.reasons == ("",) * len(VITALS)
    short = FORECASTER.forecast(rows[rows["step"] < 8])
    assert np.isnan(short.context[:, :40]).all()
    assert short.reasons == ("",) * len(VITALS)


def test_one_artefact_of_a_single_patient_refuses_one_vital_sign() -> None:
    rows = ward(1)
    rows.loc[3, "spo2"] = 1.0
    refused = FORECASTER.forecast(rows).refused()
    assert refused["vital"].tolist() == ["spo2"]
    assert refused["reason"].str.contains("looks like a fraction").all()


def test_masked_values_are_not_measured() -> None:
    context = np.ma.masked_array(context_of("sbp"), np.arange(STEPS)[None] < 45)
    reasons = FORECASTER.forecast_contexts(context, "sbp").reasons
    assert reasons == ("3 observed values in the last 48 h, at least 8 are needed",)


def test_a_step_with_two_rows_refuses_the_patient() -> None:
    rows = ward()
    forecasts = FORECASTER.forecast(pd.concat([rows, rows[(rows["patient_id"] == "p1")].head(1)]))
    refused = forecasts.refused()
    assert set(refused["patient_id"]) == {"p1"}
    assert len(refused) == len(VITALS)
    assert refused["reason"].str.contains("step 0 has more than one row").all()


def test_stays_of_a_patient_are_forecast_each_by_itself() -> None:
    rows = ward(2).assign(stay_id=lambda rows: rows["patient_id"], patient_id="p")
    forecasts = FORECASTER.forecast(rows)
    assert forecasts.table["stay_id"].unique().tolist() == ["p0", "p1"]
    with pytest.raises(UsageError, match="has the stays p0, p1"):
        forecasts.of_patient("p")
    assert len(forecasts.of_patient("p", "p1")) == len(VITALS)


@pytest.mark.parametrize("steps", [8, 48, 100])
def test_an_array_of_any_length_is_forecast_from_its_right_end(steps: int) -> None:
    context = context_of("sbp", steps)
    context[0, 0] = 999.0 if steps > STEPS else 120.0  # before the context: not looked at
    forecasts = FORECASTER.forecast_contexts(context, "sbp", ["a"])
    assert forecasts.reasons == ("",)
    assert forecasts.table["patient_id"].unique().tolist() == ["a"]
    assert (forecasts.quantiles == 120.0).all()


ARRAYS: list[tuple[object, object, str]] = [
    (np.zeros(48, np.float32), "sbp", "two axes, series and steps, got the shape (48,)"),
    (np.zeros((0, 48), np.float32), "sbp", "got the shape (0, 48)"),
    (np.zeros((1, 2, 48), np.float32), "sbp", "got the shape (1, 2, 48)"),
    (np.full((1, 48), "88 bpm"), "sbp", "must hold numbers"),
    (np.full((1, 48), True), "sbp", "must hold numbers, got bool"),
    (context_of("sbp"), "spb", "did you mean 'sbp'?"),
    (context_of("sbp"), ["sbp", "dbp"], "1 series were given with 2 names"),
    (np.full((1, 48), 98.6), "temperature_c", "temperature_c 98.6 looks like °F: convert to °C"),
    (np.full((1, 48), 0.97), "spo2", "spo2 0.97 looks like a fraction"),
]


@pytest.mark.parametrize(("context", "vital", "message"), ARRAYS, ids=[a[2] for a in ARRAYS])
def test_an_array_that_is_none_is_refused_in_one_line(
    context: np.ndarray, vital: str, message: str
) -> None:
    with pytest.raises(UsageError) as error:
        FORECASTER.forecast_contexts(context, vital)
    assert message in str(error.value)


def test_the_minimum_is_a_parameter() -> None:
    context = np.full((1, STEPS), np.nan, np.float32)
    context[0, -10] = 80.0
    patient = PatientForecaster(TypicalValues(), minimum=EnoughObserved(1, recent_hours=10))
    assert patient.forecast_contexts(context, "heart_rate").reasons == ("",)
    assert FORECASTER.forecast_contexts(context, "heart_rate").reasons != ("",)
    for wrong in ({"values": 0}, {"recent_hours": 0}, {"recent_hours": float("nan")}):
        with pytest.raises(UsageError):
            EnoughObserved(**wrong)


def test_a_vital_that_the_adapter_does_not_know_is_refused() -> None:
    patient = PatientForecaster(TypicalValues(), vitals=("heart_rate",))
    reasons = patient.forecast(ward(1)).reasons
    assert reasons[0] == ""
    assert all("not trained on this vital sign" in reason for reason in reasons[1:])


@pytest.fixture(scope="module")
def release(tiny_bolt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release") / "adapter"
    adapted = adapted_backbone(str(tiny_bolt), LoraConfig(rank=2), torch.device("cpu"))
    settings = {
        "windows.context": 24,
        "windows.horizon": 3,
        "windows.min-context": 4,
        "windows.vitals": "heart_rate,spo2",
        "step_minutes": 30,
    }
    save_peft_folder(adapted.fresh_adapter(0), folder, settings=settings)
    return folder


def test_a_released_adapter_forecasts_as_it_was_trained(release: Path, tiny_bolt: Path) -> None:
    for folder in (release, release.parent):  # a PEFT folder, and the run folder that holds it
        patient = load_forecaster(folder, backbone=str(tiny_bolt))
        assert (patient.context_steps, patient.horizon_steps, patient.step_minutes) == (24, 3, 30)
        assert patient.vitals == ("heart_rate", "spo2")
        assert patient.minimum == EnoughObserved(4)
    forecasts = patient.forecast(ward(2)[["patient_id", "step", "heart_rate", "spo2"]])
    assert forecasts.reasons == ("",) * 4
    assert isinstance(patient.model, ModelForecaster)
    raw = patient.model.forecast(forecasts.context, forecasts.vital, 3)
    np.testing.assert_array_equal(forecasts.quantiles[::2], raw[::2])
    assert (forecasts.quantiles[1::2] <= 100).all()


def test_a_folder_that_has_no_adapter_is_refused(
    release: Path, tiny_bolt: Path, tmp_path: Path
) -> None:
    backbone = str(tiny_bolt)
    with pytest.raises(UsageError, match="there is no folder"):
        load_forecaster(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is neither a run folder nor a PEFT folder"):
        load_forecaster(tmp_path)
    with pytest.raises(UsageError, match="trained on steps of 30 minutes, the table has 60"):
        load_forecaster(release, backbone=backbone, step_minutes=60)
    with pytest.raises(AdapterError, match="give the weights it was trained on"):
        load_forecaster(release, backbone="chronos-bolt-nano")
