from __future__ import annotations

import numpy as np
import pytest

from common.adapter.residual import fold_residual
from common.config.run_config import AggregationConfig
from tests.server.aggregation.samples import SITES, adapter, dense, dense_mean, run, same_product

SIZES = {"block.0.q": (30, 34), "block.0.v": (32, 32)}


def test_the_adapter_is_fedavgs() -> None:
    sites = {site: adapter(i) for i, site in enumerate(SITES)}
    assert run("fedex", sites).adapter == run("fedavg", sites).adapter


def test_the_residual_is_fedavgs_error() -> None:
    sites = {site: adapter(i, sizes=SIZES) for i, site in enumerate(SITES[:3])}
    weights = {site: 1.0 + i for i, site in enumerate(sites)}
    result = run("fedex", sites, weights, adapter(9, sizes=SIZES))
    assert result.residual is not None
    # sum_k w_k (B_k - B_mean) (A_k - A_mean): of three deviations from the mean two are free.
    assert result.notes == {"carried_rank": 4, "max_rank": 64, "cut": 0.0}
    for module in SIZES:
        error = dense_mean(sites, weights, module) - dense(result.adapter, module)
        assert same_product(dense(result.residual, module), error, tolerance=1e-5)


def test_equal_sites_leave_no_residual() -> None:
    alone = adapter(4)
    result = run("fedex", dict.fromkeys(SITES, alone), previous=alone)
    assert result.residual is not None
    assert not any(matrix.any() for matrix in result.residual.tensors.values())
    assert (result.residual.rank, result.notes["cut"]) == (1, 0.0)
    assert result.adapter == alone


def test_the_cap_reports_the_cut() -> None:
    sites = {site: adapter(i, sizes=SIZES) for i, site in enumerate(SITES)}
    free = run("fedex", sites, previous=adapter(9, sizes=SIZES))
    capped = run(
        "fedex", sites, previous=adapter(9, sizes=SIZES), settings=AggregationConfig(max_rank=5)
    )
    assert free.residual is not None
    assert capped.residual is not None
    assert (free.notes["cut"], capped.residual.rank) == (0.0, 5)
    cut = total = 0.0
    for module in SIZES:
        s = np.linalg.svd(dense(free.residual, module), compute_uv=False)
        cut, total = cut + float(np.square(s[5:]).sum()), total + float(np.square(s).sum())
        lost = dense(fold_residual(free.adapter, free.residual), module) - dense(
            fold_residual(capped.adapter, capped.residual), module
        )
        assert np.linalg.norm(lost) == pytest.approx(np.linalg.norm(s[5:]), rel=1e-4)
    assert capped.notes["cut"] == pytest.approx(cut / total, rel=1e-4)
