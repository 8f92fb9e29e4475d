"""The section of the learning curves: validation and training loss by round, a line a site."""

from __future__ import annotations

from markupsafe import Markup

from common.reporting.components import Figure, Mark, Part, Section, drawn, short
from server.report.figures import Series, loss_figure, series_css, validation_figure
from server.runs.run_reader import Curve, RunRecord


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
