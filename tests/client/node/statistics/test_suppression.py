"""No suppressed count follows from what is published, by brute force over all possible sites."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.node.statistics.counts import LEAVES, PatientCounts, leaf_of_hour
from client.node.statistics.suppression import (
    exact_statistics,
    suppressed_blocks,
    suppressed_counts,
)
from common.data.statistics.edges import BINS, HOURS
from common.data.vitals import VITAL_NAMES

LEAST = 5

Cells = tuple[int | None, ...]


def divisions(patients: int, cells: int) -> Iterator[tuple[int, ...]]:
    """Yield every division of patients into cells."""
    if cells == 1:
        yield (patients,)
        return
    for first in range(patients + 1):
        for rest in divisions(patients - first, cells - 1):
            yield (first, *rest)


@pytest.mark.parametrize("cells", [2, 3, 4])
def test_a_suppressed_cell_has_several_values_even_for_who_knows_the_rules(cells: int) -> None:
    """All sites of up to 16 patients: those with one published table differ in each gap."""
    for patients in range(LEAST, 17):
        worlds: dict[Cells, list[tuple[int, ...]]] = defaultdict(list)
        for counts in divisions(patients, cells):
            worlds[tuple(suppressed_counts(counts, LEAST))].append(counts)
        for published, possible in worlds.items():
            gaps = [cell for cell, count in enumerate(published) if count is None]
            for cell in gaps:
                assert len({counts[cell] for counts in possible}) >= 2, (published, possible)
            hidden = patients - sum(count or 0 for count in published)
            if gaps:
                # By the total alone each may be 0, or not small at all.
                assert len(gaps) >= 2
                assert hidden >= LEAST


@given(st.lists(st.integers(0, 12), min_size=2, max_size=16), st.integers(LEAST, 11))
def test_blocks_hide_every_small_cell_and_few_others(counts: list[int], least: int) -> None:
    if sum(counts) < least:
        return
    found = suppressed_blocks(counts, least)
    inside = {cell for begin, end in found for cell in range(begin, end)}
    assert len(inside) == sum(end - begin for begin, end in found), "they are disjoint"
    assert found == sorted(found)
    assert all(sum(counts[begin:end]) >= least for begin, end in found)
    assert all(cell in inside for cell, count in enumerate(counts) if 0 < count < least)
    # A block closes as soon as it has enough patients, or is the last.
    assert all(sum(counts[begin : end - 1]) < least for begin, end in found[:-1])


def test_two_thresholds_together_give_a_small_count_away() -> None:
    """19 - 6 - 10 = 3: why `answers` never sends both of one table."""
    assert suppressed_counts([6, 3, 10], 5) == [6, None, None]
    assert suppressed_counts([6, 3, 10], 7) == [None, None, 10]


class Site:
    """Exact counts of a made-up site, patient by patient."""

    def __init__(self, seed: int, patients: int, rare: float) -> None:
        rng = np.random.default_rng(seed)
        self.leaf = np.minimum(rng.geometric(0.08, patients) + rng.integers(0, 9) - 1, LEAVES - 1)
        self.bin = rng.integers(-1, rng.integers(1, BINS), (len(VITAL_NAMES), patients))
        self.seen = rng.random((len(VITAL_NAMES), HOURS, patients)) < rare
        for hour in range(HOURS):
            self.seen[:, hour] &= (self.leaf >= leaf_of_hour(hour)) & (self.bin >= 0)
        self.again = rng.random(patients) < 0.1

    @property
    def counts(self) -> PatientCounts:
        patients = len(self.leaf)
        vitals = np.array([np.bincount(row[row >= 0], minlength=BINS) for row in self.bin])
        observed = np.zeros((len(VITAL_NAMES), HOURS, LEAVES), np.int64)
        for vital, hour in itertools.product(range(len(VITAL_NAMES)), range(HOURS)):
            here = self.leaf[self.seen[vital, hour]]
            observed[vital, hour] = np.bincount(here, minlength=LEAVES)
        lengths = np.bincount(self.leaf, minlength=LEAVES)
        more = int(self.again.sum())
        return PatientCounts(60, patients, patients + more, more, vitals, lengths, observed)


sites = st.builds(
    Site, st.integers(0, 2**16), st.integers(1, 120), st.sampled_from([0.05, 0.5, 0.95, 1.0])
)


def not_small(value: int | None, least: int) -> bool:
    return value is None or value == 0 or value >= least


@settings(max_examples=150, deadline=None)
@given(sites, st.sampled_from([5, 10]))
def test_no_difference_of_published_counts_is_small(site: Site, least: int) -> None:
    """Totals, remainders, leavers between two hours, patients without a value."""
    sent = exact_statistics(site.counts, least)
    total = sent["patients"]
    if total is None:
        assert all(value is None for value in leaves_of(sent))
        return
    assert not_small(total, least)
    assert sent["stays"] is None or not_small(sent["stays"] - total, least)
    for name in VITAL_NAMES:
        vital, hours = sent["vitals"][name], sent["missing"][name]
        check_cells([*vital["counts"]], vital["patients"], least)
        if vital["patients"] is None:
            check_cells([*vital["counts"], None], total, least)
        else:
            assert not_small(total - vital["patients"], least)
        known = [n for n in hours["patients"] if n is not None]
        for before, after in itertools.pairwise([total, *known]):
            assert not_small(before - after, least)
        assert hours["patients"] == sent["missing"][VITAL_NAMES[0]]["patients"]
        for seen, here in zip(hours["observed"], hours["patients"], strict=True):
            assert seen is None or here is not None
            assert not_small(seen, least)
            assert seen is None or not_small(here - seen, least)
            # Patients with a value of the vital sign, but none in this hour.
            assert None in (seen, vital["patients"]) or not_small(vital["patients"] - seen, least)
            # A suppressed count of an hour can be anything from 0 to a number that is not small.
            assert here is None or seen is not None or here >= least
    check_cells(sent["stay_hours"], total, least)
    check_lengths(sent, least)


def check_cells(cells: Sequence[int | None], total: int | None, least: int) -> None:
    """Check cells of a known total: none is small, and the rest belongs to several."""
    assert all(not_small(cell, least) for cell in cells)
    gaps = cells.count(None)
    if total is not None and gaps:
        assert gaps >= 2
        assert total - sum(cell or 0 for cell in cells) >= least


def check_lengths(sent: dict[str, Any], least: int) -> None:
    """Check hours and bands together: both are sums over the same lengths of a stay."""
    total, bands = sent["patients"], sent["stay_hours"]
    hours = sent["missing"][VITAL_NAMES[0]]["patients"]
    if bands[0] is not None and hours[12] is not None:
        assert not_small(total - bands[0] - hours[12], least)
    if None not in (bands[0], bands[1]) and hours[23] is not None:
        assert not_small(hours[23] - (total - bands[0] - bands[1]), least)


def leaves_of(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for one in value.values():
            yield from leaves_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from leaves_of(one)
    elif value != "not recorded":
        yield value


def test_one_patient_without_a_value_is_not_told_by_the_number_of_the_others() -> None:
    site = Site(0, 60, 1.0)
    site.bin[:] = 5
    site.bin[0, 0] = -1
    sent = exact_statistics(site.counts, 10)["vitals"]
    first = sent[VITAL_NAMES[0]]
    assert first["patients"] is None
    assert first["counts"][5] is None, "59 of 60 would be the remainder"
    assert sent[VITAL_NAMES[1]] == {"patients": 60, "counts": [0] * 5 + [60] + [0] * 9}


def test_where_few_have_a_value_the_empty_bins_do_not_say_which_they_have() -> None:
    site = Site(0, 60, 1.0)
    site.bin[0] = -1
    site.bin[0, :3] = 7
    first = exact_statistics(site.counts, 10)["vitals"][VITAL_NAMES[0]]
    assert first == {"patients": None, "counts": [None] * BINS}


def test_the_hours_of_a_block_count_the_patients_of_its_end() -> None:
    """Two patients leave in hour 3: no hour shows 58, and the shares stay those of 50."""
    site = Site(0, 60, 1.0)
    site.leaf[:] = LEAVES - 1
    site.leaf[:2], site.leaf[2:10] = 3, 5
    site.bin[:] = 5
    site.seen[:] = True
    for hour in range(HOURS):
        site.seen[:, hour] &= site.leaf >= leaf_of_hour(hour)
    hours = exact_statistics(site.counts, 10)["missing"][VITAL_NAMES[0]]
    assert hours["patients"] == [60] * 4 + [50] * 20
    assert hours["observed"] == hours["patients"]


def test_patients_first_measured_in_a_later_hour_are_not_told_by_a_difference() -> None:
    """Of 60 patients 10 never have a value, and 3 have none in hour 0 only: 50 - 47."""
    site = Site(0, 60, 1.0)
    site.leaf[:] = LEAVES - 1
    site.bin[:], site.seen[:] = 5, True
    site.bin[0, :10], site.seen[0, :, :10], site.seen[0, 0, 10:13] = -1, False, False
    sent = exact_statistics(site.counts, 10)
    assert sent["vitals"][VITAL_NAMES[0]]["patients"] == 50
    assert sent["missing"][VITAL_NAMES[0]]["observed"] == [None] + [50] * 23
    site.seen[0, 0, 10:20] = False
    sent = exact_statistics(site.counts, 10)
    assert sent["missing"][VITAL_NAMES[0]]["observed"] == [40] + [50] * 23


def test_where_all_stays_are_early_no_hour_is_told_beside_a_suppressed_one() -> None:
    """All of 60 patients have a value, 11 in hour 0: 49 of the 50 still there have one in hour 1.

    Without any hour's count, the one patient without a value may be in either.
    """
    site = Site(0, 60, 1.0)
    site.leaf[:10], site.leaf[10:] = 0, 1
    site.bin[:], site.seen[:], site.again[:] = 5, False, False
    site.seen[:, 0, :11], site.seen[:, 1, 11:] = True, True
    sent = exact_statistics(site.counts, 10)
    assert sent["stays"] == 60
    assert sent["vitals"][VITAL_NAMES[0]]["patients"] == 60
    hours = sent["missing"][VITAL_NAMES[0]]
    assert hours == {"observed": [None] * 2 + [0] * 22, "patients": [60, 50] + [0] * 22}
    site.leaf[-10:] = LEAVES - 1
    hours = exact_statistics(site.counts, 10)["missing"][VITAL_NAMES[0]]
    assert hours["observed"][:2] == [11, None]


def test_stays_are_not_told_where_few_patients_have_several() -> None:
    site = Site(0, 60, 1.0)
    site.leaf[:] = LEAVES - 1
    site.again[:] = False
    assert exact_statistics(site.counts, 10)["stays"] == 60
    site.again[:3] = True
    assert exact_statistics(site.counts, 10)["stays"] is None
    site.again[:12] = True
    assert exact_statistics(site.counts, 10)["stays"] == 72
