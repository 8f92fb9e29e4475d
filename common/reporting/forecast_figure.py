"""Drawing of one forecast: the history, quantile bands, the median, and what was measured later.

The report's examples and the figure of a patient share it. Without colour the parts differ by
lightness and shape: history is a solid line with small dots, the median a thicker line, later
measurements are large dots without a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from common.data.windows import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ForecastColours:
    """Colours of a forecast's parts.

    Attributes:
        history: the measured values that the model saw, and the line at the forecast's start.
        forecast: median and bands.
        later: values measured after the forecast's start, and the reference forecast.
    """

    history: str
    forecast: str
    later: str


@dataclass(frozen=True, eq=False)
class ForecastCurves:
    """Values of one forecast to draw, in the vital's unit.

    Attributes:
        past: ``[C]``, hours of the context's steps.
        context: ``[C]``, NaN = not measured.
        ahead: ``[H]``, hours of the forecast's steps.
        quantiles: ``[H, Q]``, rising along Q, symmetric around the median in the middle.
        target: ``[H]``, measured later; NaN = not measured, or not known.
        reference: ``[H]``, another median to compare with; None for none.
    """

    past: FloatArray
    context: FloatArray
    ahead: FloatArray
    quantiles: FloatArray
    target: FloatArray
    reference: FloatArray | None = None


def draw_forecast(
    axes: Axes, curves: ForecastCurves, colours: ForecastColours, *, bands: int, opacity: float
) -> None:
    """Draw one forecast on a pair of axes.

    Args:
        axes: where to draw.
        curves: the values.
        colours: the colours.
        bands: number of central bands, the widest first; each leaves out two more quantiles.
        opacity: opacity of each band, from 0 to 1; bands lie on each other.
    """
    quantiles = curves.quantiles.T  # [Q, H]
    # Evenly spaced among the pairs of quantiles: of 10 to 90 % with two bands, 80 % and 40 %.
    pairs = len(quantiles) // 2
    for low in range(0, pairs, pairs // bands):
        axes.fill_between(
            curves.ahead,
            quantiles[low],
            quantiles[-1 - low],
            color=colours.forecast,
            alpha=opacity,
            linewidth=0,
        )
    step = curves.past[1] - curves.past[0] if len(curves.past) > 1 else 1.0
    axes.axvline(
        curves.ahead[0] - step / 2, color=colours.history, linewidth=0.8, linestyle=(0, (2, 2))
    )
    measured = ~np.isnan(curves.context)
    axes.plot(
        curves.past[measured],
        curves.context[measured],
        ".-",
        color=colours.history,
        linewidth=1,
        markersize=4,
    )
    axes.plot(curves.ahead, quantiles[pairs], color=colours.forecast, linewidth=2)
    if curves.reference is not None:
        axes.plot(
            curves.ahead,
            curves.reference,
            color=colours.later,
            linewidth=1.2,
            linestyle=(0, (3, 2)),
        )
    axes.plot(curves.ahead, curves.target, "o", color=colours.later, markersize=4)
    axes.set_xlim(curves.past[0] - step / 2, curves.ahead[-1] + step / 2)
    axes.grid(axis="y")
