"""Messages that the node sends, built from checked values, and their facts for the audit log."""

from __future__ import annotations

import hashlib
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client.egress.message_parser import ParsedMessage
from client.egress.reply_rules import CheckedReply
from client.policy.refusal import REFUSED, REFUSED_TEXT, PublicReason, refusal_text
from common.adapter.serialization.message import ARRAY_DTYPE, ARRAY_KEY, ARRAY_STYPE

APP_FAILED = 1001
NO_REPLY = 1003
ERROR_REASONS: dict[int, str] = {
    REFUSED: REFUSED_TEXT,
    APP_FAILED: "the app failed at this site",
    NO_REPLY: "no answer leaves this site; its own log says why",
    ErrorCode.INVALID_FAB: "the app bundle is not approved at this site",
    ErrorCode.CLIENT_APP_CRASHED: "the app stopped at this site",
}
"""Every error text that is ever sent, by code; any other code becomes `APP_FAILED`.

Where no app was started, `REFUSED` may be followed by a `PublicReason`, as in ``refused by the
site's policy: privacy``.

Once an app has been started under privacy, only `NO_REPLY` is sent: the app could choose among
the others.
"""


def build_reply(checked: CheckedReply, request: Message) -> Message:
    """Return the message that sends the checked values of a reply."""
    records: dict[str, Any] = {
        name: ConfigRecord(dict(values)) for name, values in checked.configs.items()
    }
    if checked.report is not None:
        records["report"] = MetricRecord(dict(checked.report))
    if checked.adapter is not None:
        data = checked.adapter
        array = Array(dtype=ARRAY_DTYPE, shape=(len(data),), stype=ARRAY_STYPE, data=data)
        records["adapter"] = ArrayRecord({ARRAY_KEY: array})
    return Message(RecordDict(records), reply_to=request)


def build_error(code: int, request: Message, reason: PublicReason = PublicReason.NONE) -> Message:
    """Return the error that is sent in place of a reply.

    Args:
        code: a key of `ERROR_REASONS`.
        request: the server's message.
        reason: what the coordinator is told of a request that started no app.
    """
    text = refusal_text(reason) if code == REFUSED else ERROR_REASONS[code]
    return Message(Error(code=code, reason=text), reply_to=request)


def known_code(code: int) -> int:
    """Return an app's error code if it is in `ERROR_REASONS`, else `APP_FAILED`."""
    return code if code in ERROR_REASONS else APP_FAILED


def reply_facts(checked: CheckedReply, parsed: ParsedMessage) -> dict[str, Any]:
    """Return the audit log's fields about a reply that is sent."""
    facts: dict[str, Any] = {"configs": {name: dict(of) for name, of in checked.configs.items()}}
    if checked.report is not None:
        facts |= {"metrics": dict(checked.report), "epsilon": checked.epsilon}
    if checked.adapter is not None:
        facts["adapter"] = {
            "tensors": [[name, dtype, list(shape)] for name, dtype, shape in checked.tensors],
            "rank": checked.rank,
            "norm": checked.norm,
            "bytes": len(checked.adapter),
            "sha256": hashlib.sha256(checked.adapter).hexdigest(),
        }
    return facts | {"answer-bytes": parsed.size}


def message_facts(message: Message) -> dict[str, Any]:
    """Return a sent message's size in bytes and its digest, which is also its id at the server."""
    objects = get_all_nested_objects(message).values()
    return {"bytes": sum(len(one.deflate()) for one in objects), "message": message.object_id}
