from __future__ import annotations

import numpy as np
import pytest

from common.errors import AdapterError
from tests.server.aggregation.samples import adapter, run, with_tensors


def test_a_keeps_its_bits_and_b_is_fedavgs() -> None:
    previous = adapter(0)
    sites = {
        site: with_tensors(
            adapter(i), lambda name, b: previous.tensors[name] if "lora_A" in name else b
        )
        for i, site in enumerate(("ccu", "micu", "sicu"))
    }
    weights = {"ccu": 1.0, "micu": 5.0, "sicu": 0.3}
    result = run("ffa", sites, weights, previous).adapter
    averaged = run("fedavg", sites, weights, previous).adapter
    for module in previous.modules:
        (a, b), (_, expected) = result.pair(module), averaged.pair(module)
        assert a.tobytes() == previous.pair(module)[0].tobytes()
        assert b.tobytes() == expected.tobytes()


@pytest.mark.parametrize("change", [np.negative, lambda m: np.nextafter(m, np.float32(9))])
def test_another_a_is_refused_by_name(change: np.ufunc) -> None:
    zero = with_tensors(adapter(0), lambda name, m: m * ("lora_A" not in name))
    moved = with_tensors(zero, lambda name, m: change(m) if "block.0.v.lora_A" in name else m)
    with pytest.raises(AdapterError, match=r"'micu' sent another A for block.0.v .*lora.train = b"):
        run("ffa", {"ccu": zero, "micu": moved}, previous=zero)
