"""The section of example forecasts. It shows values of patients, where that is allowed."""

from __future__ import annotations

from collections.abc import Sequence

from common.data.site_table import VITALS
from common.reporting.components import Figure, Mark, Part, Section, drawn
from server.report.examples import KINDS, Example
from server.report.figures import example_figure

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
