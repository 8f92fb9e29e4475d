from __future__ import annotations

import numpy as np
import pytest

from tests.server.aggregation.samples import SITES, adapter, run, with_tensors


@pytest.mark.parametrize("count", range(1, 8))
def test_median_is_numpys(count: int) -> None:
    sites = {site: adapter(i) for i, site in enumerate(SITES[:count])}
    for name, matrix in run("median", sites).adapter.tensors.items():
        stack = np.stack([own.tensors[name] for own in sites.values()]).astype(np.float64)
        assert np.array_equal(matrix, np.median(stack, axis=0).astype(np.float32))


def test_the_middle_of_two_huge_numbers_does_not_overflow() -> None:
    huge = with_tensors(adapter(0), lambda _, m: 3e38 + 0 * m)
    assert run("median", {"ccu": huge, "micu": huge}).adapter == huge
