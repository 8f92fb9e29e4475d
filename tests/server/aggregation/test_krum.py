from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapter.adapter import Adapter
from common.config.run_config import AggregationConfig
from common.errors import FederationError
from server.aggregation.krum import krum, squared_distances
from tests.server.aggregation.samples import SITES, adapter, dense, rounds, run, with_tensors

F = 2


def distance(left: Adapter, right: Adapter) -> float:
    """d, with every product formed."""
    squares = 0.0
    for module in left.modules:
        (a, b), (other_a, other_b) = left.pair(module), right.pair(module)
        squares += float(np.square(dense(left, module) - dense(right, module)).sum())
        squares += float(np.square(a.astype(np.float64) - other_a).sum())
        squares += float(np.square(left.scaling * (b.astype(np.float64) - other_b)).sum())
    return math.sqrt(squares)


def honest() -> dict[str, Adapter]:
    """Seven sites around one adapter, as near to it as a round's training leaves them."""
    centre = adapter(50)
    return {
        site: with_tensors(
            centre,
            lambda _, m, index=index: m + 0.1 * np.random.default_rng(index).normal(size=m.shape),
        )
        for index, site in enumerate(SITES)
    }


@given(rounds(least=2))
def test_distances_equal_those_of_the_formed_products(
    given_: tuple[dict[str, Adapter], dict[str, float], Adapter],
) -> None:
    adapters, _, previous = given_
    distances = squared_distances(adapters, previous)
    assert np.array_equal(distances, distances.T)
    for (i, left), (j, right) in itertools.product(enumerate(sorted(adapters)), repeat=2):
        expected = distance(adapters[left], adapters[right]) ** 2
        assert distances[i, j] == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("rows", [1, 4, 6])
def test_rows_at_a_time_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters = honest()
    expected = squared_distances(adapters, adapter(99))
    monkeypatch.setattr("server.aggregation.krum._GRAM_ROWS", rows)
    # Products of other sizes may differ in their last bits.
    np.testing.assert_allclose(squared_distances(adapters, adapter(99)), expected, rtol=1e-10)


def test_the_score_is_of_the_nearest_sites() -> None:
    adapters = honest()
    ranked = krum(adapters, adapter(99), F)
    scores = {}
    for site in SITES:
        others = [
            distance(adapters[site], adapters[other]) ** 2 for other in SITES if other != site
        ]
        scores[site] = sum(sorted(others)[: 7 - F - 2])
    assert ranked == sorted(SITES, key=scores.__getitem__)


def test_equal_scores_go_by_name() -> None:
    assert krum(dict.fromkeys(SITES, adapter(0)), adapter(99), F) == sorted(SITES)


@pytest.mark.parametrize("rule", ["krum", "multi-krum"])
@given(
    arbitrary=st.floats(-1e37, 1e37),
    place=st.integers(0, 6),
    weight=st.floats(0.1, 1e9),
)
@settings(max_examples=60)
def test_an_arbitrary_site_is_chosen_only_where_it_is_harmless(
    rule: str, arbitrary: float, place: int, weight: float
) -> None:
    adapters = honest()
    evil = {SITES[place], SITES[(place + 3) % 7]}
    good = [own for site, own in adapters.items() if site not in evil]
    for site in evil:
        adapters[site] = with_tensors(adapters[site], lambda _, m: arbitrary * m)
    weights = {site: weight if site in evil else 1.0 for site in SITES}
    result = run(rule, adapters, weights, settings=AggregationConfig(byzantine=F))
    # The chosen one's score is at most an honest one's, and its nearest sites cannot all be evil.
    spread = max(distance(left, right) for left, right in itertools.combinations(good, 2))
    bound = spread * math.sqrt((7 - F - 2) / (7 - 2 * F - 1))
    chosen = result.notes["chosen"]
    assert isinstance(chosen, list)
    for site in chosen:
        assert min(distance(adapters[site], own) for own in good) <= bound * (1 + 1e-9)
    for name, matrix in result.adapter.tensors.items():
        stack = np.stack([own.tensors[name] for own in good])
        assert (stack.min(axis=0) - bound <= matrix).all()
        assert (matrix <= stack.max(axis=0) + bound).all()
    assert result.notes["weights"] == "ignored"
    if abs(arbitrary) > 10:
        assert not evil & set(chosen)


@pytest.mark.parametrize("rule", ["krum", "multi-krum"])
def test_the_same_product_from_a_huge_a_is_left_out(rule: str) -> None:
    adapters = honest()
    adapters["micu"] = with_tensors(
        adapters["micu"], lambda name, m: m * 1e4 if "lora_A" in name else m / 1e4
    )
    result = run(rule, adapters, settings=AggregationConfig(byzantine=1))
    assert result.notes["left_out"] == ["micu"] if rule == "multi-krum" else True
    assert "micu" not in str(result.notes["chosen"])


def test_krum_is_one_sites_adapter_multi_krum_the_mean_of_the_rest() -> None:
    adapters = honest()
    adapters["nicu"] = adapter(77)
    one = run("krum", adapters)
    assert [one.adapter] == [adapters[site] for site in one.notes["chosen"]]  # type: ignore[union-attr]
    most = run("multi-krum", adapters)
    rest = {site: own for site, own in adapters.items() if site != "nicu"}
    assert most.adapter == run("fedavg", rest).adapter
    assert most.notes["left_out"] == ["nicu"]


def test_too_few_sites_are_refused_with_a_remedy() -> None:
    adapters = dict(list(honest().items())[:4])
    needs, remedy = "byzantine = 1 needs 5 sites, this round has 4", "set .* to at most 0"
    with pytest.raises(FederationError, match=f"{needs}; {remedy}"):
        run("multi-krum", adapters)
    run("multi-krum", adapters, settings=AggregationConfig(byzantine=0))
