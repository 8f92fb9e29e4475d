from __future__ import annotations

import pytest

from common.data.statistics.edges import BINS, EDGES, bin_labels
from common.data.vitals import VITAL_NAMES


def test_every_vital_sign_has_its_edges_in_the_order_of_the_site_table() -> None:
    assert tuple(EDGES) == VITAL_NAMES


@pytest.mark.parametrize("vital", VITAL_NAMES)
def test_edges_rise_and_make_the_bins_that_a_reply_has(vital: str) -> None:
    edges = EDGES[vital]
    assert list(edges) == sorted(set(edges))
    assert len(bin_labels(vital)) == len(edges) + 1 == BINS
