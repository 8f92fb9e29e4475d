from __future__ import annotations

import numpy as np
import pytest

from common.adapter.residual import fold_residual
from common.config.run_config import AggregationConfig
from server.aggregation.flora import fresh_pairs
from tests.server.aggregation.samples import (
    SITES,
    adapter,
    dense,
    dense_mean,
    run,
    same_product,
    with_tensors,
)

SIZES = {"block.0.q": (30, 34), "block.0.v": (32, 32)}


def test_the_residual_grows_by_the_sites_ranks() -> None:
    previous, residual = adapter(99, sizes=SIZES, b=0.0), None
    for number, expected in enumerate((7, 14, 21), start=1):
        sites = {
            site: adapter(10 * number + rank, rank=rank, sizes=SIZES)
            for site, rank in (("ccu", 1), ("micu", 2), ("sicu", 4))
        }
        result = run("flora", sites, previous=previous, residual=residual)
        previous, residual = result.adapter, result.residual
        assert residual is not None
        assert result.notes == {"carried_rank": expected, "max_rank": 64, "cut": 0.0}


def test_rounds_add_up() -> None:
    previous, residual = adapter(99, sizes=SIZES, b=0.0), None
    expected = {module: np.zeros(SIZES[module][::-1]) for module in SIZES}
    for number in range(4):
        sites = {site: adapter(10 * number + i, sizes=SIZES) for i, site in enumerate(SITES[:3])}
        for module in SIZES:
            expected[module] += dense_mean(sites, dict.fromkeys(sites, 1.0), module)
        result = run("flora", sites, previous=previous, residual=residual)
        previous, residual = result.adapter, result.residual
    for module in SIZES:
        assert same_product(dense(fold_residual(previous, residual), module), expected[module])


def test_the_cap_keeps_the_largest_directions_and_reports_the_cut() -> None:
    sites = {site: adapter(i, sizes=SIZES) for i, site in enumerate(SITES)}
    result = run(
        "flora", sites, settings=AggregationConfig(max_rank=5), previous=adapter(9, sizes=SIZES)
    )
    assert result.residual is not None
    assert result.residual.rank == 5
    cut = total = 0.0
    for module in SIZES:
        mean = dense_mean(sites, dict.fromkeys(sites, 1.0), module)
        s = np.linalg.svd(mean, compute_uv=False)
        cut, total = cut + float(np.square(s[5:]).sum()), total + float(np.square(s).sum())
        error = np.linalg.norm(dense(result.residual, module) - mean)
        assert error == pytest.approx(np.linalg.norm(s[5:]), rel=1e-5)
    assert result.notes["cut"] == pytest.approx(cut / total, rel=1e-9)


def test_a_fresh_pair_is_new_as_large_and_reproducible() -> None:
    previous = adapter(0, rank=4, sizes={"block.0.q": (300, 20)})
    first, again = fresh_pairs(previous), fresh_pairs(previous)
    second = fresh_pairs(with_tensors(previous, lambda name, _: first[name]))
    a, b = sorted(first)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert not first[b].any()
    root_mean_square = [
        float(np.sqrt(np.square(m).mean())) for m in (previous.tensors[a], first[a], second[a])
    ]
    assert root_mean_square == pytest.approx([root_mean_square[0]] * 3, rel=0.05)
    for one, other in ((previous.tensors[a], first[a]), (first[a], second[a])):
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1


def test_an_a_of_zeros_does_not_stay_dead() -> None:
    dead = with_tensors(adapter(0), lambda _, m: 0 * m)
    assert all(matrix.any() for name, matrix in fresh_pairs(dead).items() if "lora_A" in name)
