"""A few forecasts to look at, chosen by rule: a good, a typical and a poor one of every vital.

They hold values of patients. They go into the report's figures where the data are open, and are
written nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data.site_table import VITALS
from common.data.windows import FloatArray, Windows, pool_windows
from common.evaluation.evaluate import LEVELS, Forecaster
from common.evaluation.metrics import METRICS, window_totals

SYNTHETIC = "synthetic"
"""The source whose patients are made by a program."""

OPEN_SOURCES = frozenset({SYNTHETIC, "challenge-2012", "challenge-2019"})
"""Sources whose values anyone may see: a report shows examples of these without being asked."""

KINDS: dict[str, float] = {"good": 0.1, "typical": 0.5, "poor": 0.9}
"""The examples of each vital: the quantile of the windows' loss at which each stands."""

MOST_CANDIDATES = 500
"""Windows of a vital that are forecast in search of examples, evenly spaced over all of them."""


@dataclass(frozen=True, eq=False)
class Example:
    """One forecast.

    Attributes:
        vital: index into `common.data.site_table.VITALS`.
        kind: a key of `KINDS`.
        context: ``[C]`` in the vital's unit, NaN = not measured.
        target: ``[H]`` likewise.
        quantiles: ``[H, Q]``, the adapter's forecast at `common.evaluation.evaluate.LEVELS`.
        zero_shot: ``[H]``, the frozen backbone's median.
    """

    vital: int
    kind: str
    context: FloatArray
    target: FloatArray
    quantiles: FloatArray
    zero_shot: FloatArray


def choose_examples(
    sites: Mapping[str, Windows], adapter: Forecaster, zero_shot: Forecaster
) -> list[Example]:
    """Choose examples of every vital that has windows; the same windows give the same examples.

    Args:
        sites: the windows of each site by its name.
        adapter: whose loss (WQL of a window) ranks the windows.
        zero_shot: shown beside it.

    Returns:
        The examples, by vital and kind.
    """
    windows = pool_windows(sites)
    examples = []
    for index in range(len(VITALS)):
        candidates = _candidates(windows.of_vital(index))
        if len(candidates):
            examples += _of_vital(index, candidates, adapter, zero_shot)
    return examples


def _candidates(windows: Windows) -> Windows:
    """Windows with at least half of the target observed, if there are any: they show the most."""
    observed = (~np.isnan(windows.target)).mean(axis=1)
    full = np.flatnonzero(observed >= 0.5)
    index = full if len(full) else np.arange(len(windows))
    if len(index) > MOST_CANDIDATES:
        index = index[np.linspace(0, len(index) - 1, MOST_CANDIDATES).astype(np.int64)]
    return windows.take(index)


def _of_vital(
    index: int, windows: Windows, adapter: Forecaster, zero_shot: Forecaster
) -> list[Example]:
    horizon = windows.target.shape[1]
    forecast = adapter.forecast(windows.context, windows.vital, horizon)
    order = np.argsort(_losses(windows, forecast), kind="stable")
    median = LEVELS.index(0.5)
    examples = []
    for kind, quantile in KINDS.items():
        place = int(order[round(quantile * (len(order) - 1))])
        alone = windows.take(slice(place, place + 1))
        reference = zero_shot.forecast(alone.context, alone.vital, horizon)
        examples.append(
            Example(
                vital=index,
                kind=kind,
                context=alone.context[0],
                target=alone.target[0],
                quantiles=forecast[place],
                zero_shot=reference[0, :, median],
            )
        )
    return examples


def _losses(windows: Windows, forecast: FloatArray) -> npt.NDArray[np.float64]:
    """Return each window's own WQL, [N]."""
    totals = window_totals(windows.target, forecast, LEVELS, windows.context, 1.0, ["wql"])
    return METRICS["wql"].value(totals.numerator[:, 0], totals.denominator[:, 0])
