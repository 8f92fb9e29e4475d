from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.rounds.federation import sample_sites

SITES = [f"site{place}" for place in range(7)]


@given(st.floats(0.01, 1.0), st.integers(1, 9), st.integers(0, 99), st.integers(1, 99))
def test_a_share_of_the_sites_and_never_fewer_than_the_least(
    fraction: float, least: int, seed: int, number: int
) -> None:
    drawn = sample_sites(SITES, fraction, least, seed, number)
    assert drawn == sorted(set(drawn))
    assert set(drawn) <= set(SITES)
    assert len(drawn) >= min(least, len(SITES))
    assert len(drawn) >= fraction * len(SITES) - 1e-9
    assert drawn == sample_sites(SITES[::-1], fraction, least, seed, number)


def test_every_site_has_its_turn() -> None:
    turns = [site for number in range(200) for site in sample_sites(SITES, 0.4, 1, 0, number)]
    counts = [turns.count(site) for site in SITES]
    assert sum(counts) == 200 * 3
    assert min(counts) > 60
    assert sample_sites(SITES, 1.0, 1, 0, 1) == SITES
