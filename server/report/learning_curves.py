"""The section of the learning curves: validation and training loss by round, a line a site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from common.reporting.components import Figure, Mark, Part, Section, drawn, short
from common.reporting.svg import (
    INK,
    MUTED,
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


def learning_section(record: RunRecord) -> Section:
    """Return the section; it says so where there is nothing to draw."""
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
                "Of the global adapter on each site's validation patients, relative to the "
                "untrained adapter of round 0. Lower is better.",
                drawn(validation_figure(validation, mean, record.best_round)),
            )
        )
    if any(losses.values()):
        figures.append(
            Figure(
                "Training loss by round",
                "Mean of each site's own training, in the scale that the model trains in. Levels "
                "differ between sites, since their patients do.",
                drawn(loss_figure(training)),
            )
        )
    silent = [short(site) for site, curve in relative.items() if not curve]
    notes = [f"No curve of validation, for want of a value at round 0: {', '.join(silent)}."]
    part = Part(
        paragraphs=[] if figures else ["No round was completed, so there is nothing to draw."],
        legend=_legend(record, bool(mean)) if figures else [],
        figures=figures,
        notes=notes if silent and figures else [],
    )
    return Section("learning", "Learning curves", [part])


def _relative(curve: Curve) -> Curve:
    """Return values relative to that of round 0; nothing where round 0 was not validated."""
    start = dict(curve).get(0)
    return [(number, value / start - 1.0) for number, value in curve] if start else []


def _legend(record: RunRecord, mean: bool) -> list[Mark]:
    entries = [
        Mark(_line(series_css(place)), short(site)) for place, site in enumerate(record.sites)
    ]
    if mean:
        entries.append(
            Mark(
                _line("stroke: var(--ink); stroke-width: 3"),
                f"all sites, weighted as the adapters are; the dot is round {record.best_round}, "
                "which is released",
            )
        )
    return entries


def _line(style: str) -> Markup:
    return drawn('<line x1="1" x2="27" y1="6" y2="6" style="{}"/>', style)


@dataclass(frozen=True)
class Series:
    """A site's curve; its place among the sites, 0 the first, decides colour and dashes."""

    place: int
    curve: Curve


def validation_figure(sites: Sequence[Series], mean: Curve, best_round: int) -> str:
    """Draw validation WQL by round in per cent of its value before training, a line a site.

    Args:
        sites: relative changes by round.
        mean: of all sites together.
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


def loss_figure(sites: Sequence[Series]) -> str:
    """Draw each site's mean training loss by round."""
    with blank_figure(4.6, 3.0) as (figure, axes):
        _draw_curves(axes, sites)
        _label_rounds(axes)
        falling = sum(site.curve[-1][1] < site.curve[0][1] for site in sites if site.curve)
        return as_svg(
            figure,
            "loss",
            "Mean training loss by round",
            f"In the last round it is lower than in the first at {falling} of {len(sites)} sites.",
        )


def _draw_curves(axes: Axes, sites: Iterable[Series]) -> None:
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


def _label_rounds(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.set_xlabel("round")


def _columns(curve: Curve) -> tuple[list[int], list[float]]:
    return [number for number, _ in curve], [value for _, value in curve]


def _per_cent(curve: Curve) -> Curve:
    return [(number, 100 * value) for number, value in curve]
