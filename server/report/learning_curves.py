"""Learning curves section: validation and training loss by round.

Up to `MOST_LINES` sites have a line each. More of them are summarised by their median and two bands
of quantiles, with the sites that end lowest and highest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from common.reporting.components import Figure, LegendEntry, Part, Section, raw_html
from common.reporting.phrasing import clean_line
from common.reporting.svg import (
    ACCENT,
    INK,
    MUTED,
    Drawing,
    as_svg,
    blank_figure,
    series_colour,
    series_css,
    series_dashes,
    signed_per_cent,
)
from server.runs.run_reader import Curve, RunRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes


MOST_LINES = 12
"""Sites that have a line each; the lines of more cannot be told apart."""

_BANDS = ((0.1, 0.9), (0.25, 0.75))
"""Quantiles over the sites between which a band is filled, the outer one first."""
_BAND_OPACITY = 0.16


def learning_curves_section(record: RunRecord) -> Section:
    """Return the section; without figures if no round was completed."""
    relative = {site: _relative(record.validation_curve(site)) for site in record.sites}
    losses = {site: record.loss_curve(site) for site in record.sites}
    validation = [Series(place, relative[site]) for place, site in enumerate(record.sites)]
    training = [Series(place, losses[site]) for place, site in enumerate(record.sites)]
    mean = _relative(record.validation_curve())
    figures = []
    if mean:
        figures.append(
            Figure(
                "Validation WQL by round",
                "Global adapter on each site's validation patients, relative to the untrained "
                "adapter of round 0. Lower is better.",
                raw_html(validation_figure(validation, mean, record.best_round)),
            )
        )
    if any(losses.values()):
        figures.append(
            Figure(
                "Training loss by round",
                "Mean of each site's own training, in the model's internal scale. Levels differ "
                "between sites because their patients differ.",
                raw_html(loss_figure(training)),
            )
        )
    absent = [clean_line(site) for site, curve in relative.items() if not curve]
    which = ", ".join(absent)
    if len(absent) > MOST_LINES:
        which = f"{len(absent)} of {len(record.sites)} sites"
    notes = [f"No validation curve, because round 0 was not validated: {which}."]
    part = Part(
        paragraphs=[] if figures else ["No round was completed, so there is nothing to draw."],
        legend=_legend(record, validation, training, bool(mean)) if figures else [],
        figures=figures,
        notes=notes if absent and figures else [],
    )
    return Section("learning", "Learning curves", [part])


def _relative(curve: Curve) -> Curve:
    """Return values relative to that of round 0; empty if round 0 was not validated."""
    start = dict(curve).get(0)
    return [(number, value / start - 1.0) for number, value in curve] if start else []


@dataclass(frozen=True)
class Series:
    """Curve of a site; its place among the sites, from 0, sets colour and dashes."""

    place: int
    curve: Curve


def validation_figure(sites: Sequence[Series], mean: Curve, best_round: int) -> Drawing:
    """Draw validation WQL by round, relative to its value before training in per cent.

    Args:
        sites: relative changes by round, one series a site.
        mean: the same for all sites together.
        best_round: the released round, which is marked on `mean`.
    """
    with blank_figure(4.6, 3.0) as (figure, axes):
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        _draw_curves(axes, [replace(site, curve=_per_cent(site.curve)) for site in sites])
        rounds, values = _columns(_per_cent(mean))
        axes.plot(rounds, values, color=INK, linewidth=2.4)
        for number, value in zip(rounds, values, strict=True):
            if number == best_round:
                axes.plot([number], [value], "o", color=INK, markersize=6)
        axes.yaxis.set_major_formatter(signed_per_cent)
        _label_rounds(axes)
        return as_svg(
            figure,
            "validation",
            "Validation WQL by round, relative to the untrained adapter",
            f"All sites together change by {mean[-1][1]:+.2%} up to round {mean[-1][0]}. "
            "Lower is better.",
        )


def loss_figure(sites: Sequence[Series]) -> Drawing:
    """Draw each site's mean training loss by round."""
    with blank_figure(4.6, 3.0) as (figure, axes):
        _draw_curves(axes, sites)
        _label_rounds(axes)
        falling = sum(site.curve[-1][1] < site.curve[0][1] for site in sites if site.curve)
        return as_svg(
            figure,
            "loss",
            "Mean training loss by round",
            f"The loss of the last round is below that of the first at {falling} of {len(sites)} "
            "sites.",
        )


def _draw_curves(axes: Axes, sites: Sequence[Series]) -> None:
    if len(sites) > MOST_LINES:
        _draw_bands(axes, sites)
        sites = [replace(site, place=place) for place, site in enumerate(lowest_and_highest(sites))]
    for site in sites:
        rounds, values = _columns(site.curve)
        axes.plot(
            rounds,
            values,
            color=series_colour(site.place),
            linestyle=(0, series_dashes(site.place) or None),
            linewidth=1.6,
            marker="o" if len(site.curve) == 1 else None,
        )


def _draw_bands(axes: Axes, sites: Sequence[Series]) -> None:
    """Draw the median of all sites by round, and the bands of `_BANDS`."""
    by_round = values_by_round(sites)
    rounds = list(by_round)
    for ends in _BANDS:
        low, high = (
            [float(np.quantile(values, end)) for values in by_round.values()] for end in ends
        )
        axes.fill_between(rounds, low, high, color=ACCENT, alpha=_BAND_OPACITY, linewidth=0)
    medians = [float(np.median(values)) for values in by_round.values()]
    axes.plot(rounds, medians, color=ACCENT, linewidth=2.0)


def values_by_round(sites: Iterable[Series]) -> dict[int, list[float]]:
    """Return the values of the sites that have one, by round in order."""
    values: dict[int, list[float]] = {}
    for site in sites:
        for number, value in site.curve:
            values.setdefault(number, []).append(value)
    return dict(sorted(values.items()))


def lowest_and_highest(sites: Iterable[Series]) -> list[Series]:
    """Return the sites whose last value is lowest and highest; none where no site has a curve.

    Only sites with a value in the last round of all are compared.
    """
    drawn = [site for site in sites if site.curve]
    if not drawn:
        return []
    last = max(site.curve[-1][0] for site in drawn)
    values = {site.place: site.curve[-1][1] for site in drawn if site.curve[-1][0] == last}
    places = (min(values, key=values.__getitem__), max(values, key=values.__getitem__))
    by_place = {site.place: site for site in drawn}
    return [by_place[place] for place in places]


def _per_cent(curve: Curve) -> Curve:
    return [(number, 100 * value) for number, value in curve]


def _columns(curve: Curve) -> tuple[list[int], list[float]]:
    return [number for number, _ in curve], [value for _, value in curve]


def _label_rounds(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.set_xlabel("round")


def _legend(
    record: RunRecord, validation: Sequence[Series], training: Sequence[Series], mean: bool
) -> list[LegendEntry]:
    names = [clean_line(site) for site in record.sites]
    if len(names) > MOST_LINES:
        entries = _band_legend(names, validation, training)
    else:
        entries = [LegendEntry(_line(series_css(p)), name) for p, name in enumerate(names)]
    if mean:
        entries.append(
            LegendEntry(
                _line("stroke: var(--ink); stroke-width: 3"),
                "all sites, with the weights of the aggregation; the dot marks the released "
                f"round {record.best_round}",
            )
        )
    return entries


def _band_legend(
    names: Sequence[str], validation: Sequence[Series], training: Sequence[Series]
) -> list[LegendEntry]:
    """Return the entries of the median, the bands and the sites that end lowest and highest."""
    entries = [
        LegendEntry(
            _line("stroke: var(--accent); stroke-width: 2"), f"median of {len(names)} sites"
        ),
        LegendEntry(_box(1 - (1 - _BAND_OPACITY) ** 2), "the middle half of the sites"),
        LegendEntry(_box(_BAND_OPACITY), "the middle four fifths"),
    ]
    curves = {"validation": validation, "loss": training}
    for place, end in enumerate(("lowest", "highest")):
        of = [
            f"{names[found[place].place]} ({figure})"
            for figure, series in curves.items()
            if (found := lowest_and_highest(series))
        ]
        if of:
            text = f"{end} after the last round: {', '.join(of)}"
            entries.append(LegendEntry(_line(series_css(place)), text))
    return entries


def _box(opacity: float) -> Markup:
    style = f"fill: var(--accent); fill-opacity: {opacity:.2f}"
    return raw_html('<rect x="1" y="0" width="26" height="12" style="{}"/>', style)


def _line(style: str) -> Markup:
    return raw_html('<line x1="1" x2="27" y1="6" y2="6" style="{}"/>', style)
