"""Heat strips: one row a site, one cell a bin or an hour, for a few sites or for hundreds.

Cells of one shade are one path, so that 200 sites with seven vital signs stay well below a
megabyte. Names are HTML beside the drawing, which stretches without stretching them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from common.reporting.components import LegendEntry, raw_html
from common.reporting.phrasing import NO_BREAK

OPACITIES = (0.14, 0.26, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Opacity of each shade, from few patients to many."""
MANY_ROWS = 24
"""Rows from which on they are narrow."""


@dataclass(frozen=True)
class StripRow:
    """A row of a heat strip.

    Attributes:
        label: name of the site.
        cells: shares from 0 to 1; None = suppressed, NaN = nobody to have a share of.
        note: text to the right.
        flagged: whether a finding is about this row.
    """

    label: str
    cells: Sequence[float | None]
    note: str = ""
    flagged: bool = False


@dataclass(frozen=True)
class Scale:
    """Shares at which the shades begin: `step` apart, from above 0."""

    step: float

    def shade(self, share: float) -> int:
        """Return the place of the share's shade; -1 for none."""
        if math.isnan(share) or share <= 0:
            return -1
        return min(math.ceil(share / self.step - 1e-9) - 1, len(OPACITIES) - 1)

    def legend(self, blank: str) -> list[LegendEntry]:
        """Return the legend's entries; `blank` says what an empty cell is."""
        ends = [round(100 * self.step * place) for place in range(len(OPACITIES))]
        labels = [
            f"up to {ends[1]}{NO_BREAK}%",
            *(f"{low}–{high}{NO_BREAK}%" for low, high in pairwise(ends[1:])),  # noqa: RUF001
            f"over {ends[-1]}{NO_BREAK}%",
        ]
        marks = [
            LegendEntry(
                raw_html(
                    '<path class="shade" style="stroke-width:12" stroke-opacity="{}" d="M0 6h28"/>',
                    opacity,
                ),
                label,
            )
            for opacity, label in zip(OPACITIES, labels, strict=True)
        ]
        hatch = raw_html(
            '<path class="hatch" style="stroke-width:12;stroke-dasharray:2 3.5" d="M0 6h28"/>'
        )
        frame = raw_html(
            '<rect x=".5" y=".5" width="27" height="11" fill="none" stroke="var(--rule)"/>'
        )
        return [LegendEntry(frame, blank), *marks, LegendEntry(hatch, "suppressed")]


def heat_strips(
    name: str,
    title: str,
    description: str,
    rows: Sequence[StripRow],
    ticks: Sequence[tuple[float, str]],
    scale: Scale,
) -> Markup:
    """Draw rows of shaded cells.

    Args:
        name: prefix of the drawing's ids, unique on a page.
        title: its name for screen readers.
        description: its description for them.
        rows: at least one, each of the same number of cells.
        ticks: place in cells from the left, and label.
        scale: of the shades.
    """
    columns = len(rows[0].cells)
    paths = _paths(rows, scale)
    dense = " dense" if len(rows) >= MANY_ROWS else ""
    return raw_html(
        '<div class="strips{}"><div>{}</div>'
        '<svg viewBox="0 -.5 {} {}" preserveAspectRatio="none" role="img" '
        'aria-labelledby="{}-title {}-text" style="height:calc({} * var(--row))">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>{}</svg>'
        '<div>{}</div><div class="axis" aria-hidden="true">{}</div></div>',
        dense,
        Markup().join(_name(row) for row in rows),
        columns,
        len(rows),
        name,
        name,
        len(rows),
        name,
        title,
        name,
        description,
        paths,
        Markup().join(raw_html("<span>{}</span>", row.note) for row in rows),
        Markup().join(
            raw_html('<span style="left:{}%">{}</span>', f"{100 * place / columns:.4g}", label)
            for place, label in ticks
        ),
    )


def _name(row: StripRow) -> Markup:
    flag = raw_html(' class="flagged"') if row.flagged else ""
    return raw_html('<span{} title="{}">{}</span>', flag, row.label, row.label)


def _paths(rows: Sequence[StripRow], scale: Scale) -> Markup:
    """Return one path per shade, and one of the suppressed cells."""
    shades: list[list[str]] = [[] for _ in OPACITIES]
    hatched: list[str] = []
    for place, row in enumerate(rows):
        kinds = [len(OPACITIES) if cell is None else scale.shade(cell) for cell in row.cells]
        start = 0
        for end in range(1, len(kinds) + 1):
            if end < len(kinds) and kinds[end] == kinds[start]:
                continue
            if kinds[start] >= 0:
                piece = f"M{start} {place}h{end - start}"
                (*shades, hatched)[kinds[start]].append(piece)
            start = end
    drawn = [
        raw_html('<path class="shade" stroke-opacity="{}" d="{}"/>', opacity, "".join(pieces))
        for opacity, pieces in zip(OPACITIES, shades, strict=True)
        if pieces
    ]
    if hatched:
        drawn.append(raw_html('<path class="hatch" d="{}"/>', "".join(hatched)))
    return Markup().join(drawn)
