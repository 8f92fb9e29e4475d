"""The section of example forecasts. It shows values of patients, where that is allowed.

A few forecasts to look at, chosen by rule: a good, a typical and a poor one of every vital.

They hold values of patients. They go into the report's figures where the data are open, and are
written nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data.site_table import VITALS
from common.data.windows import FloatArray, Windows, pool_windows
from common.evaluation.evaluate import LEVELS, Forecaster
from common.evaluation.metrics import METRICS, window_totals
from common.reporting.components import Figure, Mark, Part, Section, drawn
from common.reporting.svg import ACCENT, INK, MUTED, as_svg, blank_figure

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


_CHOICE = """\
Three forecasts of each vital sign, chosen by rule and not by hand: of the windows with at least
half of their target measured, ranked by the loss of the adapter's forecast, the ones at the 10th
percentile (one in ten is better), at the median, and at the 90th (nine in ten are better)."""

_WITHHELD = """\
Not shown: they would be values of single patients. They are drawn where all sites' data are open or
synthetic, or where the coordinator asks for them and may do so:"""

_TITLES = {
    "good": "Good: one in ten is better",
    "typical": "Typical: half are better",
    "poor": "Poor: nine in ten are better",
}


def forecasts_section(
    examples: Sequence[Example], step_minutes: int, *, evaluated: bool
) -> Section | None:
    """Return the section; None before an evaluation, when there is nothing to choose from."""
    if not evaluated:
        return None
    if not examples:
        command = "python -m server evaluate --adapter RUN --data COHORT --examples"
        parts = [Part(paragraphs=[_WITHHELD], code=command)]
    else:
        ordered = sorted(examples, key=lambda e: (list(KINDS).index(e.kind), e.vital))
        parts = [Part(paragraphs=[_CHOICE], legend=_legend())]
        for kind in KINDS:
            figures = [_figure(e, step_minutes) for e in ordered if e.kind == kind]
            parts.append(Part(_TITLES[kind], figures=figures, small=True))
    return Section("examples", "Example forecasts", parts)


def _figure(example: Example, step_minutes: int) -> Figure:
    svg = drawn(example_figure(example, step_minutes))
    vital = VITALS[example.vital]
    return Figure(f"{vital.label}, {vital.unit}", "", svg)


def _legend() -> list[Mark]:
    line = '<line x1="1" x2="27" y1="6" y2="6" style="{}"/>'
    band = '<rect x="1" y="{}" width="26" height="{}" style="fill: var(--accent); opacity: .2"/>'
    dot = '<circle cx="14" cy="6" r="{}" style="fill: var({})"/>'
    accent, ink = "stroke: var(--accent); stroke-width: 2.5", "stroke: var(--ink); stroke-width: 2"
    bands = drawn(band, 0, 12) + drawn(band, 3, 6)
    return [
        Mark(
            drawn(line, "stroke: var(--muted)") + drawn(dot, 2.5, "--muted"),
            "seen by the model",
        ),
        Mark(drawn(dot, 4, "--ink"), "measured afterwards"),
        Mark(bands + drawn(line, accent), "adapter: median, central 20, 40, 60 and 80\u00a0%"),
        Mark(drawn(line, f"{ink}; stroke-dasharray: 5 4"), "zero-shot: median"),
    ]


def example_figure(example: Example, step_minutes: int) -> str:
    """Draw one forecast: what was seen, what came, and the adapter's quantile bands."""
    vital = VITALS[example.vital]
    hours = step_minutes / 60
    horizon = len(example.target)
    # The last of the past is what matters beside the forecast; the rest would squeeze it.
    context = example.context[-4 * horizon :]
    past = hours * np.arange(-len(context), 0)
    ahead = hours * np.arange(horizon)
    with blank_figure(3.6, 2.3) as (figure, axes):
        bands = example.quantiles.T  # [Q, H]
        for low in range(len(LEVELS) // 2):
            axes.fill_between(
                ahead, bands[low], bands[-1 - low], color=ACCENT, alpha=0.14, linewidth=0
            )
        axes.axvline(-hours / 2, color=MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
        seen = ~np.isnan(context)
        axes.plot(past[seen], context[seen], ".-", color=MUTED, linewidth=1, markersize=4)
        axes.plot(ahead, bands[LEVELS.index(0.5)], color=ACCENT, linewidth=2)
        axes.plot(ahead, example.zero_shot, color=INK, linewidth=1.2, linestyle=(0, (3, 2)))
        axes.plot(ahead, example.target, "o", color=INK, markersize=4)
        axes.set_xlim(past[0] - hours / 2, ahead[-1] + hours / 2)
        axes.grid(axis="y")
        axes.set_xlabel("hours from the forecast's origin")
        return as_svg(
            figure,
            f"example-{vital.name}-{example.kind}",
            f"{vital.label}: a {example.kind} forecast",
            _example_text(example),
        )


def _example_text(example: Example) -> str:
    unit = VITALS[example.vital].unit
    last = example.context[~np.isnan(example.context)][-1]
    low, median, high = (example.quantiles[-1, LEVELS.index(level)] for level in (0.1, 0.5, 0.9))
    came = example.target[~np.isnan(example.target)]
    return (
        f"Last value seen {last:.1f} {unit}. At the end of the horizon the median forecast is "
        f"{median:.1f}, 80 % band {low:.1f} to {high:.1f}. Observed in the horizon: "
        f"{came.min():.1f} to {came.max():.1f} {unit}."
    )
