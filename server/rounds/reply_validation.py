"""Validation of a site's reply to a round request; a refusal carries its reason.

Begin with `validate_reply`. `refuse_outliers` compares the validated replies of a round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median_low

from flwr.app import Message

from common.adapter.serialization.message import bytes_of, decode
from common.config.run_config import PrivacyConfig
from common.errors import AdapterError
from common.names import printable
from server.rounds.report_validation import ReplyRefusedError, SiteReport, validate_report
from server.rounds.round_request import RoundRequest


@dataclass(frozen=True)
class SiteReply:
    """Reply of a site, validated or refused.

    A refused reply keeps the parts that passed before the failure: the metrics of a site whose
    adapter is refused are of the server's own adapter, and remain valid.

    Attributes:
        site: the site's name.
        report: its metrics; None where they are refused.
        adapter: the validated bytes of its adapter; None where there is none, or once the reply
            store has them.
        refused: why its adapter, or the whole reply, is not used; empty where it is used.
        bytes_received: size of its adapter on the wire.
        update_norm: norm of the difference between its adapter and the one that it was sent.
        digest: SHA-256 of its adapter's bytes; empty without a validated adapter.
    """

    site: str
    report: SiteReport | None = None
    adapter: bytes | None = None
    refused: str = ""
    bytes_received: int = 0
    update_norm: float = 0.0
    digest: str = ""

    @property
    def accepted(self) -> bool:
        """True if the site's adapter is to be aggregated."""
        return bool(self.digest) and not self.refused

    def refuse(self, reason: str) -> SiteReply:
        """Return the reply with its adapter refused."""
        return replace(self, adapter=None, refused=reason)


def validate_reply(message: Message, request: RoundRequest, privacy: PrivacyConfig) -> SiteReply:
    """Validate one reply: error, origin, report, adapter; the first failure ends the checks.

    Args:
        message: the reply as it arrived.
        request: the request that it answers.
        privacy: the guarantee that the run promises, if any.

    Returns:
        The validated reply, with its adapter if the request was to train; or a refusal.
    """
    reply = SiteReply(request.member.name)
    if message.has_error():
        return reply.refuse(f"it failed: {printable(message.error.reason)}")
    content = message.content
    try:
        _check_origin(message, request)
        metrics = dict(content.metric_records["report"])
        reply = replace(reply, report=validate_report(metrics, request.member, privacy))
        if request.train:
            record = content.array_records["adapter"]
            size = sum(len(array.data) for array in record.values())
            reply = replace(reply, bytes_received=size)
            data = bytes_of(record)
            norm, digest = validate_adapter(data, request)
            reply = replace(reply, adapter=data, update_norm=norm, digest=digest)
    except (ReplyRefusedError, AdapterError) as error:
        return reply.refuse(printable(error))
    except KeyError as error:
        return reply.refuse(f"its reply lacks the record {error}")
    return reply


def _check_origin(message: Message, request: RoundRequest) -> None:
    """Check the sender, and the site, round and run that the reply names."""
    if message.metadata.src_node_id != request.member.node_id:
        raise ReplyRefusedError("it comes from another node than the one that joined")
    answered = message.content.config_records["round"]
    expected = {
        "site": request.member.name,
        "round": request.round_number,
        "run": request.run_id,
    }
    if any(answered.get(key) != value for key, value in expected.items()):
        raise ReplyRefusedError("it answers another round or run, or for another site")


def validate_adapter(data: bytes, request: RoundRequest) -> tuple[float, str]:
    """Check that a site's adapter can be aggregated.

    Args:
        data: the message's bytes.
        request: the request that it answers.

    Returns:
        The norm of the site's update, and the SHA-256 of the bytes.

    Raises:
        AdapterError: the bytes are damaged; settings, names, shapes or the backbone differ; or a
            number is not finite.
        ReplyRefusedError: the site changed a frozen A, or sent an adapter of an earlier round.
    """
    frozen = request.adapter if request.trained == "b" else None
    adapter = decode(data, shared=frozen, max_bytes=request.max_reply_bytes)
    if frozen is not None and adapter.a_digest() != frozen.a_digest():
        raise ReplyRefusedError("it changed A, which lora.train = b keeps frozen")
    adapter.check_compatible(request.adapter, sender=f"site {request.member.name!r}")
    norm = adapter.distance(request.adapter)
    digest = hashlib.sha256(data).hexdigest()
    # Two trainings never end in the same bytes; an unchanged adapter is no replay.
    if norm > 0 and digest in request.past_digests:
        raise ReplyRefusedError("it sent the adapter of an earlier round again")
    return norm, digest


def refuse_outliers(replies: Mapping[str, SiteReply], factor: float) -> dict[str, SiteReply]:
    """Refuse the adapters whose update is far larger than those of the round's other sites.

    Args:
        replies: the round's replies by site.
        factor: the largest update norm, in medians of the round's norms; 0 = unlimited. Of an even
            number of norms the lower median is used, so that of two sites the larger can be
            refused.

    Returns:
        The replies, with the outliers refused.
    """
    norms = [reply.update_norm for reply in replies.values() if reply.accepted]
    median = median_low(norms) if norms else 0.0
    if factor <= 0 or median <= 0:
        return dict(replies)
    return {
        site: reply.refuse(
            f"its update has the norm {reply.update_norm:.3g}, more than {factor:g} times the "
            f"round's median {median:.3g} (aggregation.norm-factor)"
        )
        if reply.accepted and reply.update_norm > factor * median
        else reply
        for site, reply in replies.items()
    }
