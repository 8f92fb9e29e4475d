from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from server.aggregation.tensor_ops import blocks


@given(st.lists(st.integers(1, 50)), st.integers(1, 100))
def test_blocks_keep_the_order_and_the_budget(costs: list[int], budget: int) -> None:
    prices = {f"layer.{place}": cost for place, cost in enumerate(costs)}
    cut = list(blocks(list(prices), prices.__getitem__, budget))
    assert [module for block in cut for module in block] == list(prices)
    for block in cut:
        assert len(block) == 1 or sum(prices[module] for module in block) <= budget
    for block, following in itertools.pairwise(cut):
        assert sum(prices[module] for module in [*block, following[0]]) > budget
