"""Every reply is checked before it can touch the average; one refused is named with its reason."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from statistics import median_low

from flwr.app import Message

from common.adapter.adapter import Adapter
from common.adapter.serialization.header import MAX_HEADER_BYTES
from common.adapter.serialization.message import bytes_of, decode, encode
from common.config.run_config import PrivacyConfig
from common.errors import AdapterError
from common.names import printable
from server.rounds.report_validation import RefusedError, SiteReport, check_report
from server.rounds.site_registry import Member


@dataclass(frozen=True)
class Order:
    """What a site was asked to do in a round.

    Attributes:
        member: the site.
        number: the round.
        sent: the adapter that it was sent, of its own rank.
        train: whether it was to train, so that its own adapter is due.
        run: the run's id.
        trained: ``ab``, or ``b`` where A is shared and must stay.
        earlier: SHA-256 of the adapters that it sent in earlier rounds.
    """

    member: Member
    number: int
    sent: Adapter
    train: bool
    run: str
    trained: str = "ab"
    earlier: Collection[str] = ()


@dataclass(frozen=True)
class SiteReply:
    """A site's round, as it was admitted or refused.

    Attributes:
        site: the site's name.
        report: its numbers; None where they are refused.
        adapter: its adapter's bytes, checked; empty once they are spooled, None where it is refused
            or nothing was trained.
        refused: why its adapter, or all of its reply, is not used; empty where it is.
        bytes_received: bytes of its adapter on the wire.
        update_norm: the norm of what it changed in the adapter that it was sent.
        digest: SHA-256 of its adapter's bytes.
    """

    site: str
    report: SiteReport | None = None
    adapter: bytes | None = None
    refused: str = ""
    bytes_received: int = 0
    update_norm: float = 0.0
    digest: str = ""

    def refuse(self, reason: str) -> SiteReply:
        """Return the reply without its adapter, for a reason that showed later."""
        return replace(self, adapter=None, refused=reason)


def admit_reply(message: Message, order: Order, privacy: PrivacyConfig) -> SiteReply:
    """Check one reply.

    Args:
        message: as it arrived.
        order: what it answers.
        privacy: the guarantee that the run promises, if it promises one.

    Returns:
        What may be used of it, and why the rest may not.
    """
    site = order.member.name
    if message.has_error():
        return SiteReply(site, refused=f"it failed: {printable(message.error.reason)}")
    content = message.content
    try:
        _check_origin(message, order)
        report = check_report(dict(content.metric_records["report"]), order.member, privacy)
    except RefusedError as error:
        return SiteReply(site, refused=printable(error))
    except KeyError as error:
        return SiteReply(site, refused=f"its reply lacks the record {error}")
    if not order.train:
        return SiteReply(site, report)
    size = 0
    try:
        record = content.array_records["adapter"]
        size = sum(len(array.data) for array in record.values())
        data = bytes_of(record)
        norm, digest = check_adapter(data, order)
    except (RefusedError, AdapterError) as error:
        # Its validation is of the server's own adapter, and stands.
        return SiteReply(site, report, refused=printable(error), bytes_received=size)
    except KeyError as error:
        return SiteReply(site, report, refused=f"its reply lacks the record {error}")
    return SiteReply(site, report, data, "", size, norm, digest)


def check_adapter(data: bytes, order: Order) -> tuple[float, str]:
    """Check that a site's adapter can be averaged with the others'.

    Args:
        data: its bytes as they arrived.
        order: what the site was asked to do.

    Returns:
        The norm of its update, and the SHA-256 of the bytes.

    Raises:
        AdapterError: where the bytes are damaged, or settings, names, shapes or the backbone
            differ, or a number is not finite.
        RefusedError: where the site changed a shared A, or sends what it sent in an earlier round.
    """
    # The largest message that an adapter of this layout can be, in whatever type it travels.
    most = len(encode(order.sent)) + MAX_HEADER_BYTES
    shared = order.sent if order.trained == "b" else None
    adapter = decode(data, shared=shared, max_bytes=most)
    if shared is not None and adapter.a_digest() != shared.a_digest():
        raise RefusedError("it changed A, which lora.train = b keeps as it is")
    adapter.check_compatible(order.sent, sender=f"site {order.member.name!r}")
    norm = adapter.distance(order.sent)
    digest = hashlib.sha256(data).hexdigest()
    # Training never ends twice in the same bytes; what was sent back unchanged is no replay.
    if norm > 0 and digest in order.earlier:
        raise RefusedError("it sent the very adapter of an earlier round again")
    return norm, digest


def refuse_outliers(replies: Mapping[str, SiteReply], factor: float) -> dict[str, SiteReply]:
    """Refuse the adapters whose update is far larger than those of the round's other sites.

    Args:
        replies: a round's replies by site.
        factor: the largest update, in medians of the round's updates; 0 = no bound. The median is
            the lower one of an even number, so that of two sites the larger can be refused.

    Returns:
        The replies, those of outliers without their adapters.
    """
    norms = [reply.update_norm for reply in replies.values() if reply.adapter is not None]
    middle = median_low(norms) if norms else 0.0
    if factor <= 0 or middle <= 0:
        return dict(replies)
    return {
        site: reply.refuse(
            f"its update has the norm {reply.update_norm:.3g}, more than {factor:g} times the "
            f"round's median {middle:.3g} (aggregation.norm-factor)"
        )
        if reply.adapter is not None and reply.update_norm > factor * middle
        else reply
        for site, reply in replies.items()
    }


def _check_origin(message: Message, order: Order) -> None:
    if message.metadata.src_node_id != order.member.node_id:
        raise RefusedError("it comes from another node than the one that joined")
    said = message.content.config_records["round"]
    answered = (said.get("site"), said.get("round"), said.get("run"))
    if answered != (order.member.name, order.number, order.run):
        raise RefusedError("it answers another round or run, or for another site")
