from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.message import encode
from common.errors import AdapterError
from server.rounds.reply_validation import (
    Order,
    SiteReply,
    check_adapter,
    refuse_outliers,
)
from server.rounds.report_validation import RefusedError
from server.rounds.site_registry import Member

MEMBER = Member("micu", 1, 12, 100, "mimic3", "all", 60, 2)


def make_adapter(value: float = 1.0, **changes: Any) -> Adapter:
    tensors = {
        tensor_name("q", "A"): np.full((2, 3), value, np.float32),
        tensor_name("q", "B"): np.full((4, 2), value, np.float32),
    }
    settings: dict[str, Any] = {
        "rank": 2,
        "alpha": 4.0,
        "target_modules": "q",
        "backbone": "b",
        "backbone_digest": "0" * 64,
    }
    return Adapter(**({"tensors": tensors} | settings | changes))


ORDER = Order(MEMBER, 3, make_adapter(), True, "run")


def test_a_good_adapter_passes_with_the_norm_of_its_update() -> None:
    norm, digest = check_adapter(encode(make_adapter(2.0)), ORDER)
    assert norm == pytest.approx(np.sqrt(2 * 3 + 4 * 2))
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("adapter", "reason"),
    [
        (replace(make_adapter(), alpha=8.0), "site 'micu' sent alpha 8"),
        (replace(make_adapter(), backbone_digest="1" * 64), "backbone"),
        (make_adapter(float("nan")), "not finite"),
    ],
)
def test_adapters_that_cannot_be_averaged_are_refused(adapter: Adapter, reason: str) -> None:
    with pytest.raises(AdapterError, match=reason):
        check_adapter(encode(adapter), ORDER)


def test_a_message_far_larger_than_an_adapter_is_refused_unread() -> None:
    with pytest.raises(AdapterError, match="are accepted"):
        check_adapter(b"x" * 100_000, ORDER)


def test_a_shared_a_must_come_back_as_it_was() -> None:
    order = replace(ORDER, trained="b")
    moved = {
        name: m * (2.0 if "_B." in name else 1.0) for name, m in make_adapter().tensors.items()
    }
    b_alone = make_adapter(tensors={n: m.astype(np.float32) for n, m in moved.items()})
    check_adapter(encode(b_alone, trained="b"), order)
    with pytest.raises(RefusedError, match="it changed A"):
        check_adapter(encode(make_adapter(2.0)), order)
    with pytest.raises(AdapterError, match="this side has none"):
        check_adapter(encode(b_alone, trained="b"), ORDER)


def test_an_adapter_of_an_earlier_round_is_refused() -> None:
    data = encode(make_adapter(2.0))
    _, digest = check_adapter(data, ORDER)
    with pytest.raises(RefusedError, match="of an earlier round again"):
        check_adapter(data, replace(ORDER, earlier={digest}))
    # What was sent back unchanged tells nothing old.
    unchanged = encode(make_adapter())
    _, digest = check_adapter(unchanged, ORDER)
    check_adapter(unchanged, replace(ORDER, earlier={digest}))


def replies(norms: list[float]) -> dict[str, SiteReply]:
    return {
        f"site{place}": SiteReply(f"site{place}", adapter=b"x", update_norm=norm)
        for place, norm in enumerate(norms)
    }


@pytest.mark.parametrize(
    ("norms", "refused"),
    [
        ([1.0, 1.2, 0.8, 100.0], ["site3"]),
        ([1.0, 100.0], ["site1"]),
        ([1.0, 9.9, 10.0], []),
        ([0.0, 0.0, 5.0], []),  # nobody else moved: no measure
        ([1.0], []),
        ([], []),
    ],
)
def test_updates_far_larger_than_the_others_are_refused(
    norms: list[float], refused: list[str]
) -> None:
    judged = refuse_outliers(replies(norms), 10.0)
    assert [site for site, reply in judged.items() if reply.adapter is None] == refused
    assert all("aggregation.norm-factor" in judged[site].refused for site in refused)


@given(st.lists(st.floats(0.0, 1e6), max_size=8), st.floats(1.0, 100.0))
def test_at_least_half_of_the_sites_are_kept(norms: list[float], factor: float) -> None:
    judged = refuse_outliers(replies(norms), factor)
    kept = sum(reply.adapter is not None for reply in judged.values())
    assert 2 * kept >= len(norms)
    assert refuse_outliers(replies(norms), 0) == replies(norms)
