"""Zero-shot evaluation of a nano model on real vital signs, for its model card only.

``python -m simulation.pretraining.zero_shot FOLDER ARCHIVE`` writes `evaluation.json` into the
folder and renews its card. ARCHIVE is the PhysioNet Challenge 2019 (doi 10.13026/v64v-d857), as a
tar file or a folder of `.psv` files. No training and no choice of a recipe reads these records.
"""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import typer

from common import console
from common.errors import SourceError
from common.evaluation.evaluate import LEVELS
from simulation.pretraining import nano_model
from simulation.pretraining.export import ZERO_SHOT_FILE, read_recipe_record, write_card, write_json

Array = npt.NDArray[np.float64]

CHALLENGE_VITALS = ("HR", "O2Sat", "Temp", "SBP", "MAP", "DBP", "Resp")
CONTEXT_STEPS = 48
HORIZON_STEPS = 6
ORIGIN_STRIDE = 12
MIN_OBSERVED = 8
EWMA_ALPHA = 0.35

_LEVELS = np.array(LEVELS)
_Z = np.array([NormalDist().inv_cdf(level) for level in LEVELS])


@dataclass(frozen=True)
class EvaluationWindows:
    """Hourly windows of the challenge's vital signs; NaN = not measured.

    Attributes:
        context: ``[n, 48]``, float32.
        target: ``[n, 6]``, float32.
        vital: ``[n]``, index into `CHALLENGE_VITALS`.
        stays: number of stays with at least one window.
    """

    context: npt.NDArray[np.float32]
    target: npt.NDArray[np.float32]
    vital: npt.NDArray[np.int64]
    stays: int


def challenge_windows(archive: Path) -> EvaluationWindows:
    """Cut windows of 48 h + 6 h, one every 12 h, from every record that is long enough.

    A window has at least eight observed values in its context and one in its target.

    Raises:
        SourceError: the archive is missing, or no record gives a window.
    """
    contexts, targets, vitals, stays = [], [], [], 0
    for record in _records(archive):
        values = record[list(CHALLENGE_VITALS)].to_numpy(np.float32)
        found = False
        for origin in range(CONTEXT_STEPS, len(values) - HORIZON_STEPS + 1, ORIGIN_STRIDE):
            context = values[origin - CONTEXT_STEPS : origin].T  # [vital, context]
            target = values[origin : origin + HORIZON_STEPS].T
            seen = np.isfinite(context).sum(axis=1) >= MIN_OBSERVED
            keep = np.flatnonzero(seen & np.isfinite(target).any(axis=1))
            contexts.append(context[keep])
            targets.append(target[keep])
            vitals.append(keep)
            found = found or len(keep) > 0
        stays += found
    if not stays:
        raise SourceError(f"{archive}: no stay gives a window of 48 h and 6 h; got 0 windows")
    return EvaluationWindows(
        np.concatenate(contexts), np.concatenate(targets), np.concatenate(vitals), stays
    )


def _records(archive: Path) -> Iterator[pd.DataFrame]:
    if archive.is_dir():
        for path in sorted(archive.rglob("*.psv")):
            yield pd.read_csv(path, sep="|")
        return
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                stream: IO[bytes] | None = tar.extractfile(member)
                if stream is not None and member.name.endswith(".psv"):
                    yield pd.read_csv(stream, sep="|")
    except (OSError, tarfile.TarError) as error:
        raise SourceError(f"{archive}: cannot be read as a tar file or folder ({error})") from error


def last_value_quantiles(context: Array, horizon: int) -> Array:
    """Repeat the last observed value, with the quantiles of a Gaussian random walk.

    Args:
        context: ``[n, context]`` with NaN.
        horizon: steps ahead.

    Returns:
        Quantiles ``[n, horizon, 9]``; the middle one is the point forecast.
    """
    return _exponential_smoothing(context, horizon, 1.0)


def ewma_quantiles(context: Array, horizon: int) -> Array:
    """Repeat the exponentially weighted mean (weight .35), with its Gaussian quantiles."""
    return _exponential_smoothing(context, horizon, EWMA_ALPHA)


def _exponential_smoothing(context: Array, horizon: int, alpha: float) -> Array:
    """Simple exponential smoothing over observed values; variance s^2 (1 + (h - 1) alpha^2)."""
    level = np.full(len(context), np.nan)
    squares = np.zeros(len(context))
    errors = np.zeros(len(context))
    for step in range(context.shape[1]):
        value = context[:, step]
        seen = np.isfinite(value)
        error = np.where(seen & np.isfinite(level), value - level, 0.0)
        squares += error**2
        errors += seen & np.isfinite(level)
        level = np.where(seen, np.where(np.isfinite(level), level + alpha * error, value), level)
    deviation = np.sqrt(squares / np.maximum(errors, 1))
    growth = np.sqrt(1.0 + alpha**2 * np.arange(horizon))
    spread = deviation[:, None, None] * growth[None, :, None] * _Z
    return np.asarray(level[:, None, None] + spread)


def scores(quantiles: Array, windows: EvaluationWindows) -> dict[str, tuple[float, float]]:
    """Return per vital the mean absolute error and the mean pinball loss on observed targets."""
    target = windows.target.astype(np.float64)[:, :, None]  # [n, horizon, 1]
    error = target - quantiles
    pinball = np.maximum(_LEVELS * error, (_LEVELS - 1.0) * error).mean(axis=2)
    absolute = np.abs(error[:, :, 4])
    return {
        name: (
            float(np.nanmean(absolute[windows.vital == index])),
            float(np.nanmean(pinball[windows.vital == index])),
        )
        for index, name in enumerate(CHALLENGE_VITALS)
        if (windows.vital == index).any()
    }


def relative_scores(windows: EvaluationWindows, quantiles: Array) -> dict[str, Any]:
    """Score a model's quantiles ``[n, 6, 9]`` and EWMA relative to the last value.

    Returns:
        JSON values: numbers of stays and windows; by forecaster and vital, and for the geometric
        mean over vitals, the ratio of MAE and of pinball loss to those of the last value.
    """
    context = windows.context.astype(np.float64)
    reference = scores(last_value_quantiles(context, HORIZON_STEPS), windows)
    forecasts = {"zero_shot": quantiles, "ewma": ewma_quantiles(context, HORIZON_STEPS)}
    relative = {}
    for forecaster, forecast in forecasts.items():
        scored = scores(forecast, windows)
        table = {
            name: [scored[name][k] / reference[name][k] for k in range(2)] for name in reference
        }
        mean = np.exp(np.mean(np.log(list(table.values())), axis=0))
        table["geometric mean"] = [float(value) for value in mean]
        relative[forecaster] = {
            name: {"mae": round(mae, 4), "pinball": round(pinball, 4)}
            for name, (mae, pinball) in table.items()
        }
    return {
        "context": CONTEXT_STEPS,
        "horizon": HORIZON_STEPS,
        "min_observed": MIN_OBSERVED,
        "alpha": EWMA_ALPHA,
        "stays": windows.stays,
        "windows": len(windows.vital),
        "relative": relative,
    }


def report(folder: Path, archive: Path) -> None:
    """Measure pretrained weights, write `evaluation.json` beside them and renew their card.

    Args:
        folder: the folder of the weights.
        archive: the PhysioNet Challenge 2019, a tar file or a folder of `.psv` files.
    """
    nano = nano_model(read_recipe_record(folder)["name"])
    windows = challenge_windows(archive)
    quantiles = nano.predict_quantiles(folder, torch.from_numpy(windows.context), HORIZON_STEPS)
    write_json(
        folder / ZERO_SHOT_FILE, relative_scores(windows, quantiles.numpy().astype(np.float64))
    )
    write_card(folder, nano)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False)
    app.command()(report)
    sys.exit(console.run(app))
