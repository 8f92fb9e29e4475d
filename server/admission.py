"""Every reply is checked before it can touch the average; one refused is named with its reason."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message

from common.adapter import Adapter
from common.errors import AdapterError
from common.vitals import VITAL_NAMES
from common.wire import from_record
from server.sites import Member

MAX_TEXT = 200
"""Text from a site ends in our logs, records and report: no longer than this."""

VALIDATION_KEYS = frozenset(
    {"wql"} | {f"{metric}.{vital}" for metric in ("mae", "wql") for vital in VITAL_NAMES}
)
SECONDS_KEYS = frozenset({"validation", "training"})
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\uffff]")


@dataclass(frozen=True)
class Report:
    """A site's numbers of one round, checked.

    Attributes:
        patients: training patients, as many as when the site joined.
        windows: training windows.
        steps: optimiser steps.
        loss: mean training loss.
        validation: metrics of the adapter as the site received it, by `VALIDATION_KEYS`.
        seconds: wall time, by `SECONDS_KEYS`.
    """

    patients: int
    windows: int
    steps: int
    loss: float
    validation: dict[str, float]
    seconds: dict[str, float]


@dataclass(frozen=True)
class SiteReply:
    """A site's round, as it was admitted or refused.

    Attributes:
        site: the site's name.
        report: its numbers; None where they are refused.
        adapter: its own adapter; None where it is refused or nothing was trained.
        refused: why its adapter, or all of its reply, is not used; empty where it is.
        bytes_received: bytes of its adapter on the wire.
    """

    site: str
    report: Report | None = None
    adapter: Adapter | None = None
    refused: str = ""
    bytes_received: int = 0


class RefusedError(Exception):
    """A reply that must not be used; the message is the reason."""


def admit_reply(
    message: Message, member: Member, reference: Adapter, number: int, trained: bool
) -> SiteReply:
    """Check one reply.

    Args:
        message: as it arrived.
        member: the site that was asked.
        reference: the adapter that the round began with.
        number: the round.
        trained: whether the site was to train, so that its own adapter is due.

    Returns:
        What may be used of it, and why the rest may not.
    """
    site = member.name
    if message.has_error():
        return SiteReply(site, refused=f"it failed: {printable(message.error.reason)}")
    content = message.content
    try:
        _check_origin(message, member, number)
        report = check_report(dict(content.metric_records["report"]), member)
    except RefusedError as error:
        return SiteReply(site, refused=str(error))
    except KeyError as error:
        return SiteReply(site, refused=f"its reply lacks the record {error}")
    if not trained:
        return SiteReply(site, report)
    size = 0
    try:
        record = content.array_records["adapter"]
        size = sum(len(array.data) for array in record.values())
        adapter = from_record(record)
        check_adapter(adapter, reference, site)
    except (RefusedError, AdapterError) as error:
        # Its validation is of the server's own adapter, and stands.
        return SiteReply(site, report, refused=printable(str(error)), bytes_received=size)
    except KeyError as error:
        return SiteReply(site, report, refused=f"its reply lacks the record {error}")
    return SiteReply(site, report, adapter, bytes_received=size)


def check_report(values: Mapping[str, Any], member: Member) -> Report:
    """Read a site's numbers.

    Args:
        values: as they arrived.
        member: what the site said of itself when it joined.

    Raises:
        RefusedError: where one is absent, unknown, not finite or impossible.
    """
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise RefusedError(f"the value of {printable(name)} is not a finite number")
    for name in ("patients", "windows", "steps", "loss"):
        if name not in values:
            raise RefusedError(f"the report lacks {name}")
    # A site's weight in the average is its number of patients: it was said once and stands.
    if values["patients"] != member.patients:
        raise RefusedError(
            f"it reports {values['patients']} patients, {member.patients} when it joined"
        )
    return Report(
        patients=int(values["patients"]),
        windows=int(values["windows"]),
        steps=int(values["steps"]),
        loss=float(values["loss"]),
        validation=_below(values, "validation.", VALIDATION_KEYS),
        seconds=_below(values, "seconds.", SECONDS_KEYS),
    )


def check_adapter(adapter: Adapter, reference: Adapter, site: str) -> None:
    """Check that a site's adapter can be averaged with the others'.

    Args:
        adapter: as decoded from the wire, which has checked types, shapes and finiteness.
        reference: the adapter that the round began with.
        site: the site's name.

    Raises:
        RefusedError: where settings, names, shapes or the backbone differ, or a number is not
            finite.
    """
    try:
        adapter.check_compatible(reference, sender=f"site {site!r}")
    except AdapterError as error:
        raise RefusedError(str(error)) from error
    if not adapter.is_finite():
        raise RefusedError(f"the adapter holds NaN or infinity in {adapter.first_nonfinite()}")


def printable(text: object) -> str:
    """Return a site's text as one bounded line that can move no cursor and forge no log line."""
    return _UNPRINTABLE.sub("?", str(text))[:MAX_TEXT]


def _check_origin(message: Message, member: Member, number: int) -> None:
    if message.metadata.src_node_id != member.node_id:
        raise RefusedError("it comes from another node than the one that joined")
    order = message.content.config_records["round"]
    if (order.get("site"), order.get("round")) != (member.name, number):
        raise RefusedError("it answers another round or for another site")


def _below(values: Mapping[str, Any], prefix: str, known: frozenset[str]) -> dict[str, float]:
    found = {
        name.removeprefix(prefix): float(value)
        for name, value in sorted(values.items())
        if name.startswith(prefix)
    }
    for name in found.keys() - known:
        raise RefusedError(f"the report holds {printable(prefix + name)}, which nobody asked for")
    return found
