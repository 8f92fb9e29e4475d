"""Forecaster of patients by a released adapter: what a ward or a researcher calls.

    forecaster = load_forecaster(Path("run"))
    forecasts = forecaster.forecast(table)
    forecasts.table

Unlike `common.backbones.base.ModelForecaster`, which scores models on windows of valid site tables
and checks nothing, it refuses inputs that cannot be forecast and bounds every quantile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from common.backbones.base import ModelForecaster
from common.backbones.lora import merged_model
from common.config.run_config import RunConfig
from common.data.vitals import VITAL_NAMES
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS, Forecaster
from common.forecasting.bounds import bound_forecast
from common.forecasting.forecast_table import Forecasts
from common.forecasting.history import read_history
from common.forecasting.release import load_release
from common.forecasting.series_checks import (
    EnoughObserved,
    check_observed,
    check_series,
    last_observed_minutes,
)
from common.names import check_name

_BATCH = 512
_NOT_TRAINED = "the adapter was not trained on this vital sign"


@dataclass(frozen=True)
class PatientForecaster:
    """Forecaster of patients, with checked inputs and bounded quantiles.

    Attributes:
        model: the model, with or without an adapter.
        context_steps: C, the steps that the model sees: as many as in its training.
        horizon_steps: H, the steps that it forecasts.
        step_minutes: length of a step.
        vitals: the vital signs that it was trained on.
        minimum: least observation of a series. By default as many values in the context as each
            window of the training had (`windows.min-context`), one of them in the last 6 hours.
    """

    model: Forecaster
    context_steps: int = 48
    horizon_steps: int = 6
    step_minutes: int = 60
    vitals: tuple[str, ...] = VITAL_NAMES
    minimum: EnoughObserved = field(default_factory=EnoughObserved)

    def forecast(self, history: pd.DataFrame) -> Forecasts:
        """Forecast every vital sign of every stay from the stay's last row on.

        Args:
            history: a row per stay and time step, in any order: `patient_id`; `stay_id`, if
                patients have several stays; `step`, the number of the time step of `step_minutes`;
                and any of `common.data.vitals.VITAL_NAMES` in the units of the site table (bpm,
                mmHg, breaths/min, °C, %), NaN = not measured. The frame of a site table is one.

        Returns:
            The forecasts. A series that cannot be forecast has NaN and a reason: too little is
            observed, a value is outside the valid range or infinite, another unit is likely, or a
            step has two rows.

        Raises:
            UsageError: a column is missing, unknown or not numeric, there is no row, or most
                patients of a column seem to have another unit.
        """
        read = read_history(history, self.context_steps)
        stays, count = len(read.keys), len(read.vitals)
        vital = np.array([VITAL_NAMES.index(name) for name in read.vitals], np.int64)
        return self._forecasts(
            read.keys.iloc[np.repeat(np.arange(stays), count)].reset_index(drop=True),
            read.context.reshape(stays * count, self.context_steps),
            np.tile(vital, stays),
            np.repeat(np.arange(stays), count),
            np.repeat(read.last_step, count),
            [reason for reason in read.reasons for _ in range(count)],
        )

    def forecast_contexts(
        self,
        context: FloatArray,
        vital: Sequence[str] | str,
        patient_ids: Sequence[str] | None = None,
    ) -> Forecasts:
        """Forecast N series given as an array.

        Args:
            context: ``[N, T]`` in the vitals' units, time to the right, NaN = not measured. Of
                T > C steps the last C are used; T < C are filled with NaN on the left.
            vital: names of the N vital signs, or one name for all.
            patient_ids: names of the N patients; their row numbers by default.

        Returns:
            The forecasts; see `forecast`.

        Raises:
            UsageError: a shape or a type does not fit, a name is unknown, or most series of a vital
                sign seem to have another unit.
        """
        values = self._fitted(context)
        count = len(values)
        names = [vital] * count if isinstance(vital, str) else list(vital)
        if len(names) != count:
            raise UsageError(f"{count} series were given with {len(names)} names of vital signs")
        ids = [str(row) for row in range(count)] if patient_ids is None else list(patient_ids)
        if len(ids) != count:
            raise UsageError(f"{count} series were given with {len(ids)} ids of patients")
        indices = [VITAL_NAMES.index(check_name("vital", name, VITAL_NAMES)) for name in names]
        return self._forecasts(
            pd.DataFrame({"patient_id": ids}),
            values,
            np.array(indices, np.int64),
            pd.factorize(np.array(ids, object))[0].astype(np.int64),
            np.full(count, np.shape(context)[1] - 1, np.int64),
            [""] * count,
        )

    def _fitted(self, context: FloatArray) -> FloatArray:
        """Check an array of contexts and cut or fill it to C steps."""
        given = np.asarray(context)
        if np.ma.isMaskedArray(context) and given.dtype.kind in "fiu":
            given = np.ma.filled(context.astype(np.float64), np.nan)
        if given.ndim != 2 or not given.size:
            raise UsageError(
                f"context must have two axes, series and steps, got the shape {given.shape}"
            )
        if given.dtype.kind not in "fiu":
            raise UsageError(f"context must hold numbers, got {given.dtype}")
        values = np.full((len(given), self.context_steps), np.nan, np.float32)
        kept = given[:, -self.context_steps :]
        values[:, self.context_steps - kept.shape[1] :] = kept
        return values

    def _forecasts(
        self,
        keys: pd.DataFrame,
        context: FloatArray,
        vital: IntArray,
        patient: IntArray,
        last_step: IntArray,
        reasons: list[str],
    ) -> Forecasts:
        trained = {VITAL_NAMES.index(name) for name in self.vitals}
        checks = (
            reasons,
            ["" if index in trained else _NOT_TRAINED for index in vital],
            check_series(context, vital, patient),
            check_observed(context, self.step_minutes, self.minimum),
        )
        refusals = [next(filter(None, found), "") for found in zip(*checks, strict=True)]
        good = np.flatnonzero([not reason for reason in refusals])
        quantiles = np.full((len(vital), self.horizon_steps, len(LEVELS)), np.nan, np.float32)
        for start in range(0, len(good), _BATCH):
            rows = good[start : start + _BATCH]
            forecast = self.model.forecast(context[rows], vital[rows], self.horizon_steps)
            finite = np.isfinite(forecast).all(axis=(1, 2))
            quantiles[rows[finite]] = bound_forecast(forecast[finite], vital[rows[finite]])
            for row in rows[~finite]:
                refusals[row] = "the model returned NaN or infinity"
        return Forecasts(
            keys,
            vital,
            context,
            quantiles,
            tuple(refusals),
            self.step_minutes,
            last_step,
            last_observed_minutes(context, self.step_minutes),
        )


def load_forecaster(
    folder: Path | str,
    *,
    backbone: str | None = None,
    step_minutes: int | None = None,
    minimum: EnoughObserved | None = None,
) -> PatientForecaster:
    """Load a released adapter with its backbone as a forecaster of patients, on the CPU.

    Args:
        folder: a run folder or a PEFT folder.
        backbone: name or folder of the backbone. Needed for a folder that PEFT itself wrote, and
            when local weights have moved.
        step_minutes: length of a step of the tables to forecast; needed only where the folder does
            not record that of the training, which it must equal.
        minimum: least observation of a series; the training's by default, see `PatientForecaster`.

    Raises:
        UsageError: there is no adapter in the folder, or the step length is unknown or another.
        AdapterError: the adapter is damaged, not finite or was trained on another backbone.
        BackboneError: the backbone is unknown or absent.
    """
    release = load_release(Path(folder), backbone=backbone)
    config = RunConfig.parse(release.settings)
    steps = release.step_minutes or step_minutes
    if steps is None:
        raise UsageError(
            f"{folder} does not record the length of its time steps; give step_minutes"
        )
    if step_minutes not in (None, steps):
        raise UsageError(
            f"{folder} was trained on steps of {steps} minutes, the table has {step_minutes}; make "
            f"the table with steps of {steps} minutes"
        )
    merged = merged_model(release.loaded_backbone, release.adapter)
    return PatientForecaster(
        ModelForecaster(release.loaded_backbone.backbone, merged),
        context_steps=config.windows.context,
        horizon_steps=config.windows.horizon,
        step_minutes=steps,
        vitals=tuple(config.windows.names()),
        minimum=minimum or EnoughObserved(values=config.windows.min_context),
    )
