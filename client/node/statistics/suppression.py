"""Statistics without small counts: what a site without a privacy guarantee may send.

A count is small if it is from 1 to the threshold less one. The patients are divided into cells, for
each characteristic: the bins of a vital sign and its patients without any value; the lengths of a
stay; age bands with the unknown age; sexes. Their sum, the number of patients, is known.

**Blocks.** A small cell is suppressed with the cells after it, in their fixed order, until these
have at least the threshold's patients together; the last ones with those before. Which cells are
suppressed with a small one depends on their place and not on which is the cheapest: who knows that
the cheapest was taken, as in a table with row and column totals (`common.reporting.small_cells`),
can bound the small one by it. Here each characteristic has one total, so blocks suffice.

**What is known of a suppressed cell** is its block's total, or the total of several blocks
together. It is at least the threshold, so that the cell may be 0, small or not small. Who knows
these rules too still has at least threshold - 1 values for the first cell of a block, since the
last one can be whatever is left.

**Hours.** The patients of hour h are those whose first stay goes on. The difference of two hours is
the number of patients who left between them, so only the ends of blocks of lengths are published.
Within a block the patients of its end are counted: the shares stay comparable. An observed count is
suppressed if it is small, or if its difference to the patients of the hour is, or to all patients
with a value of the vital sign, if these are published.

Where no first stay reaches the 24th hour, all hours of a vital sign are suppressed if one is. If
each patient has one stay, the patients with a value are those of some hour, and a suppressed hour
could be bounded by the others.

**Stays** are suppressed if few patients have several.

A true 0 is published, outside a block. A site with fewer patients than the threshold sends no
count.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from client.node.statistics.counts import LEAVES, PatientCounts, leaf_of_band, leaf_of_hour
from common.data.statistics.edges import (
    AGE_NAMES,
    BINS,
    HOURS,
    SEX_NAMES,
    STAY_BANDS,
    STAY_EDGES_H,
)
from common.data.statistics.reply import NOT_RECORDED
from common.data.vitals import VITAL_NAMES

Block = tuple[int, int]
"""First leaf of a block, and the first after it."""


def is_small(count: int, least: int) -> bool:
    """Return whether a count of patients may not be told."""
    return 0 < count < least


def suppressed_blocks(counts: Sequence[int], least: int) -> list[Block]:
    """Return the blocks to suppress: disjoint, in order, each with at least `least` patients.

    Args:
        counts: patients by cell, in the fixed order of the cells.
        least: the threshold; the cells have at least as many patients together.

    Returns:
        No block if no cell is small.
    """
    found: list[Block] = []
    begin = -1
    for cell, count in enumerate(counts):
        if begin < 0 and is_small(count, least):
            begin = cell
        if begin >= 0 and sum(counts[begin : cell + 1]) >= least:
            found.append((begin, cell + 1))
            begin = -1
    if begin >= 0:  # too few are left after it
        end = max(cell for cell, count in enumerate(counts) if count) + 1
        while begin > 0 and sum(counts[begin:end]) < least:
            begin = found.pop()[0] if found and found[-1][1] == begin else begin - 1
        found.append((begin, end))
    return found


def suppressed_counts(counts: Sequence[int], least: int) -> list[int | None]:
    """Return the counts of a characteristic with None in each block; their sum is known."""
    published: list[int | None] = [int(count) for count in counts]
    for begin, end in suppressed_blocks(counts, least):
        published[begin:end] = [None] * (end - begin)
    return published


def exact_statistics(counts: PatientCounts, least: int) -> dict[str, Any]:
    """Return the counts of `SiteStatistics` that may leave without noise.

    Args:
        counts: the exact counts.
        least: the site's threshold.
    """
    if counts.patients < least:
        return _without_counts(counts)
    lengths = [int(count) for count in counts.lengths]
    left = suppressed_blocks(lengths, least)
    return {
        "patients": counts.patients,
        "stays": _stays(counts, least),
        "vitals": {name: _vital(counts, index, least) for index, name in enumerate(VITAL_NAMES)},
        "missing": {
            name: _hours(counts, index, left, least) for index, name in enumerate(VITAL_NAMES)
        },
        "stay_hours": list(_bands(lengths, left)),
        **_demographics(counts, least),
    }


def _without_counts(counts: PatientCounts) -> dict[str, Any]:
    """Return the reply of a site that is too small for any count, a 0 included."""
    hours = {"observed": [None] * HOURS, "patients": [None] * HOURS}
    return {
        "patients": None,
        "stays": None,
        "vitals": {name: {"patients": None, "counts": [None] * BINS} for name in VITAL_NAMES},
        "missing": dict.fromkeys(VITAL_NAMES, hours),
        "stay_hours": [None] * len(STAY_BANDS),
        "age": NOT_RECORDED if counts.age is None else [None] * len(AGE_NAMES),
        "sex": NOT_RECORDED if counts.sex is None else dict.fromkeys(SEX_NAMES),
    }


def _stays(counts: PatientCounts, least: int) -> int | None:
    return None if is_small(counts.readmitted, least) else counts.stays


def _vital(counts: PatientCounts, index: int, least: int) -> dict[str, Any]:
    bins = [int(count) for count in counts.vitals[index]]
    measured = sum(bins)
    if is_small(measured, least):
        # The empty bins would say where all these few are.
        return {"patients": None, "counts": [None] * BINS}
    *published, never = suppressed_counts([*bins, counts.patients - measured], least)
    return {"patients": None if never is None else measured, "counts": published}


def _hours(counts: PatientCounts, index: int, left: Sequence[Block], least: int) -> dict[str, Any]:
    observed: list[int | None] = []
    patients: list[int | None] = []
    measured = _vital(counts, index, least)["patients"]
    for hour in range(HOURS):
        begin = leaf_of_hour(hour)
        inside = [block for block in left if block[0] < begin < block[1]]
        if inside:
            begin = inside[0][1]
        here = int(counts.lengths[begin:].sum())
        seen = int(counts.observed[index, hour, begin:].sum())
        if inside and not here:  # the hour has patients, of whom none stays to the block's end
            observed.append(None)
            patients.append(None)
            continue
        without = [here - seen] if measured is None else [here - seen, measured - seen]
        few = any(is_small(count, least) for count in (seen, *without))
        observed.append(None if few else seen)
        patients.append(here)
    all_early = not counts.lengths[leaf_of_band(HOURS) :].any()
    if all_early and None in observed:
        observed = [0 if here == 0 else None for here in patients]  # a 0 is known anyway
    return {"observed": observed, "patients": patients}


def _bands(lengths: Sequence[int], left: Sequence[Block]) -> Iterator[int | None]:
    edges = [*(leaf_of_band(hours) for hours in (0, *STAY_EDGES_H)), LEAVES]
    for begin, end in pairwise(edges):
        cut = any(low < edge < high for low, high in left for edge in (begin, end))
        yield None if cut else sum(lengths[begin:end])


def _demographics(counts: PatientCounts, least: int) -> dict[str, Any]:
    age: Any = NOT_RECORDED
    if counts.age is not None:
        bands = [int(count) for count in counts.age]
        age = suppressed_counts([*bands, counts.patients - sum(bands)], least)[:-1]
    sex: Any = NOT_RECORDED
    if counts.sex is not None:
        published = suppressed_counts([int(count) for count in counts.sex], least)
        sex = dict(zip(SEX_NAMES, published, strict=True))
    return {"age": age, "sex": sex}
