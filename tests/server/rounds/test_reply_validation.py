from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.message import encode, record_of
from common.config.run_config import PrivacyConfig
from common.errors import AdapterError
from server.rounds.reply_validation import (
    SiteReply,
    refuse_outliers,
    validate_adapter,
    validate_reply,
)
from server.rounds.report_validation import ReplyRefusedError
from server.rounds.round_request import RoundRequest, max_reply_bytes
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


REQUEST = RoundRequest(
    MEMBER, 3, "run", True, make_adapter(), max_reply_bytes=max_reply_bytes(make_adapter())
)


REPORT = {"steps": 5, "patients": 12, "windows": 100, "loss": 0.5, "validation.wql": 0.1}
ORIGIN = {"site": "micu", "round": 3, "run": "run"}


def reply_of(
    *,
    source: int = 1,
    origin: Mapping[str, Any] = ORIGIN,
    report: Mapping[str, Any] = REPORT,
    adapter: Adapter | None = None,
    without: str = "",
) -> Message:
    """A reply of micu, as the server receives it."""
    records: dict[str, ArrayRecord | MetricRecord | ConfigRecord] = {
        "round": ConfigRecord(dict(origin)),
        "report": MetricRecord(dict(report)),
        "adapter": record_of(encode(make_adapter(2.0) if adapter is None else adapter)),
    }
    records.pop(without, None)
    message = SimpleNamespace(
        has_error=lambda: False,
        metadata=SimpleNamespace(src_node_id=source),
        content=RecordDict(records),
    )
    return cast(Message, message)


def failed(reason: str) -> Message:
    error = SimpleNamespace(reason=reason)
    return cast(Message, SimpleNamespace(has_error=lambda: True, error=error))


def test_a_valid_reply_is_accepted_with_report_and_adapter() -> None:
    reply = validate_reply(reply_of(), REQUEST, PrivacyConfig())
    assert reply.accepted
    assert reply.adapter == encode(make_adapter(2.0))
    assert (reply.refused, reply.bytes_received) == ("", len(reply.adapter))
    assert reply.report is not None
    assert reply.report.validation == {"wql": 0.1}


def test_a_reply_to_a_validation_request_needs_no_adapter() -> None:
    request = replace(REQUEST, train=False)
    reply = validate_reply(reply_of(without="adapter"), request, PrivacyConfig())
    assert (reply.refused, reply.adapter, reply.accepted) == ("", None, False)
    assert reply.report is not None


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (failed("out of memory\n"), r"it failed: out of memory\?"),
        (reply_of(source=2), "it comes from another node"),
        (reply_of(origin=ORIGIN | {"round": 2}), "it answers another round"),
        (reply_of(origin=ORIGIN | {"run": "other"}), "it answers another round or run"),
        (reply_of(origin=ORIGIN | {"site": "ccu"}), "or for another site"),
        (reply_of(without="round"), "its reply lacks the record 'round'"),
        (reply_of(without="report"), "its reply lacks the record 'report'"),
        (reply_of(report=REPORT | {"patients": 13}), "it reports 13 patients"),
    ],
)
def test_a_refused_reply_has_neither_report_nor_adapter(message: Message, reason: str) -> None:
    reply = validate_reply(message, REQUEST, PrivacyConfig())
    assert re.search(reason, reply.refused)
    assert (reply.report, reply.adapter, reply.accepted) == (None, None, False)


@pytest.mark.parametrize(
    ("message", "reason", "received"),
    [
        (reply_of(adapter=make_adapter(float("nan"))), "not finite", True),
        (reply_of(without="adapter"), "its reply lacks the record 'adapter'", False),
    ],
)
def test_the_report_is_kept_where_the_adapter_is_refused(
    message: Message, reason: str, received: bool
) -> None:
    reply = validate_reply(message, REQUEST, PrivacyConfig())
    assert reason in reply.refused
    assert reply.report is not None
    assert (reply.adapter, reply.accepted) == (None, False)
    assert (reply.bytes_received > 0) == received


def test_a_good_adapter_passes_with_the_norm_of_its_update() -> None:
    norm, digest = validate_adapter(encode(make_adapter(2.0)), REQUEST)
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
        validate_adapter(encode(adapter), REQUEST)


def test_a_message_far_larger_than_an_adapter_is_refused_unread() -> None:
    with pytest.raises(AdapterError, match="are accepted"):
        validate_adapter(b"x" * 100_000, REQUEST)


def test_a_shared_a_must_come_back_as_it_was() -> None:
    request = replace(REQUEST, trained="b")
    moved = {
        name: m * (2.0 if "_B." in name else 1.0) for name, m in make_adapter().tensors.items()
    }
    b_alone = make_adapter(tensors={n: m.astype(np.float32) for n, m in moved.items()})
    validate_adapter(encode(b_alone, trained="b"), request)
    with pytest.raises(ReplyRefusedError, match="it changed A"):
        validate_adapter(encode(make_adapter(2.0)), request)
    with pytest.raises(AdapterError, match="this side has none"):
        validate_adapter(encode(b_alone, trained="b"), REQUEST)


def test_an_adapter_of_an_earlier_round_is_refused() -> None:
    data = encode(make_adapter(2.0))
    _, digest = validate_adapter(data, REQUEST)
    with pytest.raises(ReplyRefusedError, match="of an earlier round again"):
        validate_adapter(data, replace(REQUEST, past_digests={digest}))
    # An unchanged adapter is no replay.
    unchanged = encode(make_adapter())
    _, digest = validate_adapter(unchanged, REQUEST)
    validate_adapter(unchanged, replace(REQUEST, past_digests={digest}))


def replies(norms: list[float]) -> dict[str, SiteReply]:
    return {
        f"site{place}": SiteReply(f"site{place}", digest="x", update_norm=norm)
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
    assert [site for site, reply in judged.items() if not reply.accepted] == refused
    assert all("aggregation.norm-factor" in judged[site].refused for site in refused)


@given(st.lists(st.floats(0.0, 1e6), max_size=8), st.floats(1.0, 100.0))
def test_at_least_half_of_the_sites_are_kept(norms: list[float], factor: float) -> None:
    judged = refuse_outliers(replies(norms), factor)
    kept = sum(reply.accepted for reply in judged.values())
    assert 2 * kept >= len(norms)
    assert refuse_outliers(replies(norms), 0) == replies(norms)
