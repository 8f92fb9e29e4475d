from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, tensor_name
from server.aggregation.fedavg import fedavg


def adapter(seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    return Adapter(
        {
            tensor_name("q", "A"): random.normal(size=(2, 3)).astype(np.float32),
            tensor_name("q", "B"): random.normal(size=(4, 2)).astype(np.float32),
        },
        rank=2,
        alpha=4.0,
        target_modules="q",
        backbone="b",
        backbone_digest="0" * 64,
    )


weights_of_sites = st.dictionaries(
    st.sampled_from(["ccu", "csru", "micu", "sicu"]), st.floats(0.5, 1e4), min_size=1
)


@given(weights_of_sites)
def test_equals_the_slow_reference(weights: Mapping[str, float]) -> None:
    adapters = {site: adapter(len(site) + index) for index, site in enumerate(weights)}
    averaged = fedavg(adapters, weights)
    total = sum(weights.values())
    for name, matrix in averaged.items():
        assert matrix.dtype == np.float32
        for place in np.ndindex(matrix.shape):
            expected = sum(
                weights[site] * float(adapters[site].tensors[name][place]) for site in weights
            )
            assert matrix[place] == pytest.approx(expected / total, rel=1e-6, abs=1e-6)


def test_the_order_of_arrival_changes_no_bit() -> None:
    weights = {"a": 3.0, "b": 7.0, "c": 11.0}
    adapters = {site: adapter(index) for index, site in enumerate(weights)}
    expected = fedavg(adapters, weights)
    for order in itertools.permutations(weights):
        permuted = fedavg({site: adapters[site] for site in order}, weights)
        for name, matrix in permuted.items():
            assert matrix.tobytes() == expected[name].tobytes()


def test_one_site_comes_back_as_it_is() -> None:
    alone = adapter(0)
    averaged = fedavg({"micu": alone}, {"micu": 5.0})
    assert all(np.array_equal(averaged[name], alone.tensors[name]) for name in averaged)
