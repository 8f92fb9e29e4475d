from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.adapter.serialization.message import bytes_of, decode, inspect
from common.config.run_config import RunConfig
from server.aggregation.truncation import truncate
from server.rounds.round_request import RoundRequest, build_requests, max_reply_bytes
from server.rounds.site_registry import Member
from tests.server.aggregation.samples import adapter

GLOBAL = adapter(0, rank=4)


def member(name: str, rank: int = 4) -> Member:
    return Member(name, 1, 12, 100, "mimic3", "all", 60, rank)


def requests_for(
    *members: Member, residual: bool = False, settings: Mapping[str, Any] | None = None
) -> dict[str, RoundRequest]:
    requests = build_requests(
        RunConfig.parse(settings or {}),
        members,
        run_id="run",
        round_number=3,
        train=True,
        adapter=GLOBAL,
        residual=replace(adapter(1, rank=2), alpha=2.0) if residual else None,
        past_digests={"micu": {"ab"}},
    )
    assert [request.member for request in requests] == list(members)
    return {request.member.name: request for request in requests}


def test_each_site_gets_its_own_header_and_the_shared_adapter() -> None:
    sent = requests_for(member("micu"), member("ccu"))
    for name, request in sent.items():
        header = dict(request.content.config_records["round"])
        assert header == {"site": name, "round": 3, "run": "run"}
        data = bytes_of(request.content.array_records["adapter"])
        assert decode(data) == request.adapter == GLOBAL
        assert request.bytes_sent == len(data)
    assert (sent["micu"].past_digests, sent["ccu"].past_digests) == ({"ab"}, frozenset())


def test_a_site_of_a_lower_rank_gets_the_truncated_adapter() -> None:
    sent = requests_for(member("micu"), member("ccu", rank=2))
    assert sent["ccu"].adapter == truncate(GLOBAL, 2)
    assert sent["ccu"].max_reply_bytes == max_reply_bytes(truncate(GLOBAL, 2))
    assert sent["ccu"].bytes_sent < sent["micu"].bytes_sent


def test_the_residual_is_sent_beside_the_adapter() -> None:
    alone, both = (requests_for(member("micu"), residual=one)["micu"] for one in (False, True))
    data = bytes_of(both.content.array_records["carried"])
    assert decode(data).rank == 2
    assert both.bytes_sent == alone.bytes_sent + len(data)


@pytest.mark.parametrize(
    ("uplink", "downlink"), [("float32", "float32"), ("float16", "float16"), ("int8", "float16")]
)
def test_the_adapter_is_kept_as_the_site_decodes_it(uplink: str, downlink: str) -> None:
    request = requests_for(member("micu"), settings={"wire.dtype": uplink})["micu"]
    data = bytes_of(request.content.array_records["adapter"])
    assert inspect(data).dtype == downlink
    assert request.adapter == decode(data)


def test_a_frozen_a_is_left_out() -> None:
    request = requests_for(member("micu"), settings={"lora.train": "b"})["micu"]
    data = bytes_of(request.content.array_records["adapter"])
    assert inspect(data).trained == request.trained == "b"
    for module in GLOBAL.modules:
        assert np.array_equal(request.adapter.pair(module)[0], GLOBAL.pair(module)[0])
