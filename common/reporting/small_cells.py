"""Suppression of small cells in the characteristics of a cohort, before they are published.

A count from 1 to `LEAST_COUNT` - 1 may point to a person, and so may the rest of its column. Both
are replaced by `SUPPRESSED`, with further cells until no suppressed one follows from totals that
are known: in each row and column at least two are suppressed, which together are not small either,
and no suppressed cell is the only solution of the sums. Quartiles of so few are left out, and care
units with so few stays are counted together, since their name alone may tell of a patient.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

LEAST_COUNT = 10
"""Smallest count of patients or stays, other than 0, that may be published."""

SUPPRESSED = "*"
"""Mark in place of a suppressed number."""

OTHER_UNITS = "other units"
"""Care units with fewer than `LEAST_COUNT` stays in all sites together."""

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
    _pool_small_units(groups)
    suppressed = {name: _to_suppress(parts) for name, parts in _partitions(groups).items()}
    # First the quartiles: they depend on counts that are suppressed afterwards.
    for group in groups.values():
        _suppress_quartiles(group)
    for name, cells in suppressed.items():
        for cell in cells:
            _suppress(groups[cell[0]], name, cell[1])
    return published


def _pool_small_units(groups: Mapping[str, dict[str, Any]]) -> None:
    small = {unit for unit, n in (groups[_OVERALL]["unit"] or {}).items() if n < LEAST_COUNT}
    for group in groups.values():
        if units := group["unit"]:
            pooled = sum(count for unit, count in units.items() if unit in small)
            kept = {unit: count for unit, count in units.items() if unit not in small}
            pooled += kept.pop(OTHER_UNITS, 0)  # a source may have a unit of this name
            group["unit"] = {**kept, OTHER_UNITS: pooled} if pooled else kept


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
        if values["icu_days"] is not None:
            known = values["icu_days"]["known"]
            rest = {"known": known, "unknown": values["stays"] - known}
            found.setdefault("icu_days", {}).update({(group, c): n for c, n in rest.items()})
        for vital, numbers in values["vitals"].items():
            missing = numbers["missing"]
            rest = {"known": values["steps"] - missing, "missing": missing}
            found.setdefault(vital, {}).update({(group, c): n for c, n in rest.items()})
    # A few values are of a few patients; a few missing ones point to nobody.
    few = {vital for vital in groups[_OVERALL]["vitals"] if _is_rare(found[vital])}
    return {
        name: counts
        for name, counts in found.items()
        if name in few or name not in groups[_OVERALL]["vitals"]
    }


def _is_rare(counts: Mapping[Cell, int]) -> bool:
    return any(0 < n < LEAST_COUNT for (_, category), n in counts.items() if category == "known")


def _to_suppress(counts: Mapping[Cell, int]) -> set[Cell]:
    """Return the cells that are small, and those that would give a suppressed one away."""
    hidden = {cell for cell, count in counts.items() if 0 < count < LEAST_COUNT}
    lines = list(_lines(counts))
    while hidden:
        before = len(hidden)
        for line in lines:
            if _tells(line, counts, hidden):
                hidden |= _cheapest([cell for cell in line if cell not in hidden], counts, hidden)
        if len(hidden) > before:
            continue
        for cell in _solved(lines, hidden):
            beside = {one for line in lines if cell in line for one in line} - hidden
            if added := _cheapest(sorted(beside), counts, hidden):
                hidden |= added
                break
        else:
            break
    return hidden


def _tells(line: Sequence[Cell], counts: Mapping[Cell, int], hidden: set[Cell]) -> bool:
    """Return whether the known numbers of a line give a suppressed one away, or a small sum."""
    cells = [cell for cell in line if cell in hidden]
    if not cells:
        return False
    is_category = len({cell[1] for cell in line}) == 1 and line[0][0] == _OVERALL
    if len(cells) > 1 and is_category and line[0] in hidden:
        return False  # the difference is known, not the sum
    if len(cells) > 1 and all(not counts[cell] for cell in line if cell not in hidden):
        # The line's total is itself small, and is given elsewhere.
        return is_category and sum(counts[cell] for cell in cells) < LEAST_COUNT
    return len(cells) == 1 or sum(counts[cell] for cell in cells) < LEAST_COUNT


def _cheapest(cells: Sequence[Cell], counts: Mapping[Cell, int], hidden: set[Cell]) -> set[Cell]:
    """Return the cell to suppress next; a zero only where nothing else is left.

    A cell is cheap whose other line has a suppressed one already; of zeros, that of a frequent
    category is the one that a reader cannot guess.
    """
    groups, categories = {cell[0] for cell in hidden}, {cell[1] for cell in hidden}

    def cost(cell: Cell) -> tuple[bool, bool, int, Cell]:
        crossing = cell[0] in groups and cell[1] in categories
        count = counts[cell] or -counts.get((_OVERALL, cell[1]), 0)
        return not counts[cell], not crossing, count, cell

    return {min(cells, key=cost)} if cells else set()


def _lines(counts: Mapping[Cell, int]) -> Iterator[list[Cell]]:
    """Yield the cells of each group, whose sum is known, and those of each category.

    A category's line holds the overall count and those of the sites, whose sum it is.
    """
    for place in (0, 1):
        for name in dict.fromkeys(cell[place] for cell in counts):
            yield [cell for cell in counts if cell[place] == name]


def _solved(lines: Sequence[Sequence[Cell]], hidden: set[Cell]) -> list[Cell]:
    """Return the suppressed cells that the sums of all lines together determine."""
    cells = sorted(hidden)
    place = {cell: number for number, cell in enumerate(cells)}
    sums = np.zeros((len(lines), len(cells)))
    for row, line in enumerate(lines):
        is_category = len({cell[1] for cell in line}) == 1
        for cell in line:
            if cell in place:
                sums[row, place[cell]] = -1 if is_category and cell[0] == _OVERALL else 1
    # A cell is determined if no solution of the sums with zero totals moves it.
    free = np.eye(len(cells)) - np.linalg.pinv(sums) @ sums
    return [cell for cell in cells if free[place[cell], place[cell]] < 1e-9]


def _suppress(group: dict[str, Any], name: str, category: str) -> None:
    if name == "over_89":
        if category == "unknown":
            group["age"]["known"] = SUPPRESSED
        else:
            group[name] = SUPPRESSED
    elif name in ("sex", "unit"):
        group[name][category] = SUPPRESSED
    elif name in group["vitals"]:
        # Either follows from the other and the number of steps.
        group["vitals"][name].update(known=SUPPRESSED, missing=SUPPRESSED)
    elif name == "icu_days":
        group[name]["known"] = SUPPRESSED
    else:
        group[name]["known" if category == "unknown" else "yes"] = SUPPRESSED


def _suppress_quartiles(group: dict[str, Any]) -> None:
    few_patients = group["patients"] < LEAST_COUNT
    for quartiles in _quartile_sets(group):
        known = quartiles["known"]
        # Many values may be those of one patient. Their number of patients is not published.
        few_measured = 0 < quartiles.pop("patients", LEAST_COUNT) < LEAST_COUNT
        if few_patients or few_measured or known < LEAST_COUNT:
            quartiles.update(dict.fromkeys(("q1", "median", "q3")))
            quartiles["known"] = SUPPRESSED if known else 0


def _quartile_sets(group: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    yield from (group[name] for name in ("age", "icu_days", "observed_hours") if group[name])
    yield from group["vitals"].values()
