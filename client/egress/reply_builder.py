"""The messages that a node sends, made from checked values, and what the audit log says of them."""

from __future__ import annotations

import hashlib
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client.egress.message_parser import Inventory
from client.egress.reply_rules import Release
from common.adapter.serialization.message import ARRAY_DTYPE, ARRAY_KEY, ARRAY_STYPE

CLIENT_FAILED = 1001
REFUSED = 1002
NO_ANSWER = 1003
REASONS: dict[int, str] = {
    REFUSED: "refused by the site's policy",
    CLIENT_FAILED: "the app failed at this site",
    NO_ANSWER: "no answer leaves this site; its own log says why",
    ErrorCode.INVALID_FAB: "the app bundle is not approved at this site",
    ErrorCode.CLIENT_APP_CRASHED: "the app stopped at this site",
}
"""All that an error can say, by its code; every other code becomes `CLIENT_FAILED`.

Once an app has been started under privacy, `NO_ANSWER` alone is said: which error it is would be
the app's to choose.
"""


def reply(release: Release, question: Message) -> Message:
    """Return the answer that sends what was released."""
    return Message(_content(release), reply_to=question)


def error_reply(code: int, question: Message) -> Message:
    """Return the error that goes in an answer's place.

    Args:
        code: a key of `REASONS`.
        question: the server's message.
    """
    return Message(Error(code=code, reason=REASONS[code]), reply_to=question)


def known_code(code: int) -> int:
    """Return an app's error code if it is one of `REASONS`, else `CLIENT_FAILED`."""
    return code if code in REASONS else CLIENT_FAILED


def release_facts(release: Release, found: Inventory) -> dict[str, Any]:
    """Return what the audit log says of a message that leaves."""
    facts: dict[str, Any] = {"configs": {name: dict(of) for name, of in release.configs.items()}}
    if release.report is not None:
        facts |= {"metrics": dict(release.report), "epsilon": release.epsilon}
    if release.adapter is not None:
        facts["adapter"] = {
            "tensors": [[name, dtype, list(shape)] for name, dtype, shape in release.tensors],
            "rank": release.rank,
            "norm": release.norm,
            "bytes": len(release.adapter),
            "sha256": hashlib.sha256(release.adapter).hexdigest(),
        }
    return facts | {"answer-bytes": found.size}


def _content(release: Release) -> RecordDict:
    records: dict[str, Any] = {
        name: ConfigRecord(dict(values)) for name, values in release.configs.items()
    }
    if release.report is not None:
        records["report"] = MetricRecord(dict(release.report))
    if release.adapter is not None:
        data = release.adapter
        array = Array(dtype=ARRAY_DTYPE, shape=(len(data),), stype=ARRAY_STYPE, data=data)
        records["adapter"] = ArrayRecord({ARRAY_KEY: array})
    return RecordDict(records)


def measure(message: Message) -> dict[str, Any]:
    """Return a message's bytes as it leaves, and its digest, which is its id at the server too."""
    objects = get_all_nested_objects(message).values()
    return {"bytes": sum(len(one.deflate()) for one in objects), "message": message.object_id}
