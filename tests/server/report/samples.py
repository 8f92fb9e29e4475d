"""Made-up intervals and evaluations, and the text of a section, for the tests of the report."""

from __future__ import annotations

from typing import Any

from common.reporting.components import Part, Section
from common.reporting.phrasing import NO_BREAK


def text_of(section: Section | None) -> str:
    """All text of a section except that of its figures, with plain spaces."""
    assert section is not None
    return plain_spaces(" ".join(text for part in section.parts for text in _of_part(part)))


def _of_part(part: Part) -> list[str]:
    cells = [
        text
        for table in (*part.tables, *part.folded)
        for row in table.rows
        for text in (row.label, row.unit, *row.cells)
    ]
    stages = [f"{one.left} {one.of} {one.rule} {one.out}" for one in part.flow]
    texts = [part.heading, *part.paragraphs, *part.items, *part.warnings, *stages, *cells]
    return [*texts, part.code, *part.notes]


def plain_spaces(text: str) -> str:
    return text.replace(NO_BREAK, " ")


def interval(estimate: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high}


BELOW, ABOVE = interval(-0.03, -0.04, -0.02), interval(0.03, 0.02, 0.04)
AROUND, POINT = interval(-0.03, -0.07, 0.01), interval(-0.03, None, None)


def evaluation(mean: dict[str, Any], **sites: dict[str, Any]) -> dict[str, Any]:
    """evaluation.json with MAE differences of one vital, pooled and by site."""

    def block(relative: dict[str, Any]) -> dict[str, Any]:
        difference = {"relative": relative, "absolute": interval(-0.3, -0.5, -0.1)}
        return {
            "models": {
                "adapter": {"vitals": {"sbp": {"mae": 12.0}}},
                "zero_shot": {"vitals": {"sbp": {"mae": 12.3}}},
            },
            "differences": {
                "zero_shot": {"mean": {"mae": difference}, "vitals": {"sbp": {"mae": difference}}}
            },
        }

    return {"pooled": block(mean), "sites": {name: block(one) for name, one in sites.items()}}
