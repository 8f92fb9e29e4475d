"""Suppression of small cells in the characteristics of a cohort, before they are published.

A count from 1 to `LEAST_COUNT` - 1 may point to a person, and so may the rest of its column. Both
are replaced by `SUPPRESSED`. So is a second cell of a row or a column in which a single one is
suppressed, since the total would give it away. Quartiles of so few are left out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

LEAST_COUNT = 10
"""Smallest count of patients or stays, other than 0, that may be published."""

SUPPRESSED = "*"
"""Mark in place of a suppressed number."""

_OVERALL = ""
_OF = {"septic": "stays", "died": "patients"}
"""Total that each yes-or-no characteristic is counted in."""

Cell = tuple[str, str]
"""Group (`_OVERALL` or a site) and category of a count."""


def without_small_cells(characteristics: Mapping[str, Any]) -> dict[str, Any]:
    """Return characteristics that may be published.

    Args:
        characteristics: `common.data.characteristics.characterise` of a cohort.

    Returns:
        The same, with `SUPPRESSED` in place of each count that is small or would give a small one
        away, and quartiles of fewer than `LEAST_COUNT` values as None. The numbers of patients,
        stays, steps and windows are kept: the report gives them by site anyway.
    """
    published = copy.deepcopy(dict(characteristics))
    groups = {_OVERALL: published["overall"], **published["sites"]}
    for name, parts in _partitions(groups).items():
        for cell in _to_suppress(parts):
            _suppress(groups[cell[0]], name, cell[1])
    for group in groups.values():
        _suppress_quartiles(group)
    return published


def _partitions(groups: Mapping[str, dict[str, Any]]) -> dict[str, dict[Cell, int]]:
    """Return the counts of each characteristic, whose categories add up to a known total."""
    found: dict[str, dict[Cell, int]] = {}
    for group, values in groups.items():
        for name in ("sex", "unit"):
            for category, count in (values[name] or {}).items():
                found.setdefault(name, {})[group, category] = count
        for name, total in _OF.items():
            if values[name] is not None:
                yes, known = values[name]["yes"], values[name]["known"]
                rest = {"yes": yes, "no": known - yes, "unknown": values[total] - known}
                found.setdefault(name, {}).update({(group, c): n for c, n in rest.items()})
        if values["over_89"] is not None:
            older = values["over_89"]
            rest = {"older": older, "younger": values["age"]["known"] - older}
            rest["unknown"] = values["patients"] - values["age"]["known"]
            found.setdefault("over_89", {}).update({(group, c): n for c, n in rest.items()})
    return found


def _to_suppress(counts: Mapping[Cell, int]) -> set[Cell]:
    """Return the cells that are small, and those that would give a suppressed one away."""
    hidden = {cell for cell, count in counts.items() if 0 < count < LEAST_COUNT}
    lines = list(_lines(counts))
    changed = bool(hidden)
    while changed:
        changed = False
        for line in lines:
            if sum(cell in hidden for cell in line) != 1:
                continue
            open_cells = [cell for cell in line if cell not in hidden and counts[cell]]
            if open_cells:
                hidden.add(min(open_cells, key=lambda cell: _cost(cell, line, counts, hidden)))
                changed = True
    return hidden


def _cost(
    cell: Cell, line: Sequence[Cell], counts: Mapping[Cell, int], hidden: set[Cell]
) -> tuple[bool, int, Cell]:
    """Return the order of suppression: a cell first whose other line has a suppressed one too."""
    crossing = any(
        other not in line and (other[0] == cell[0] or other[1] == cell[1]) for other in hidden
    )
    return not crossing, counts[cell], cell


def _lines(counts: Mapping[Cell, int]) -> Iterator[list[Cell]]:
    """Yield the cells of each group, whose sum is known, and those of each category.

    A category's line holds the sites and the overall count, which is their sum.
    """
    for place in (0, 1):
        for name in dict.fromkeys(cell[place] for cell in counts):
            yield [cell for cell in counts if cell[place] == name]


def _suppress(group: dict[str, Any], name: str, category: str) -> None:
    if name == "over_89":
        if category == "unknown":
            group["age"]["known"] = SUPPRESSED
        else:
            group[name] = SUPPRESSED
    elif name in ("sex", "unit"):
        group[name][category] = SUPPRESSED
    else:
        group[name]["known" if category == "unknown" else "yes"] = SUPPRESSED


def _suppress_quartiles(group: dict[str, Any]) -> None:
    few_patients = group["patients"] < LEAST_COUNT
    for quartiles in _quartile_sets(group):
        known = quartiles["known"]
        if few_patients or (known != SUPPRESSED and known < LEAST_COUNT):
            quartiles.update(dict.fromkeys(("q1", "median", "q3")))
            quartiles["known"] = SUPPRESSED if known else 0
    days = group["icu_days"]
    if days and days["known"] != SUPPRESSED and 0 < group["stays"] - days["known"] < LEAST_COUNT:
        days["known"] = SUPPRESSED


def _quartile_sets(group: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    yield from (group[name] for name in ("age", "icu_days", "observed_hours") if group[name])
    yield from group["vitals"].values()
