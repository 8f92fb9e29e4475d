"""Error that keeps a message at the site, and the reason that the coordinator is told.

The audit log of the site has the reason in full. The coordinator is told at most one word group of
`PublicReason`, and only where the node refuses a request before it starts an app: what was decided
then follows from the request, the run's settings, the site's own files and the audit log. It does
not depend on the site table, so no public reason does. A refused reply has no public reason: the
app chose the reply, and could choose among reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

MAX_DETAIL_CHARACTERS = 500
"""Limit of a detail: it may quote what was received, and is kept in a log that only grows."""


class PublicReason(StrEnum):
    """Reasons that a coordinator may be told; the values are sent, and listed in the docs."""

    PRIVACY = "privacy"
    """No guarantee, its epsilon or delta, `privacy.*`, or a budget of the site."""
    BACKBONE = "backbone"
    """The backbone, or the digest of its weights."""
    ADAPTER_SHAPE = "adapter shape"
    """`lora.*`, `wire.*`, or the layers, ranks and size of the adapter in the request."""
    SETTINGS = "settings"
    """Any other setting of the run, or settings that cannot be read."""
    REPORT = "report"
    """The numbers that a round of this run reports."""
    STATISTICS = "statistics"
    """Statistics: the policy has no section for them."""
    MESSAGE_KIND = "message kind"
    """The request is malformed, has unknown records, or is of an unknown kind, site or round."""
    NONE = ""
    """No reason is told. Several causes share it on purpose, the number of patients among them."""


REFUSED = 1002
"""Code of the error that the coordinator receives for a refusal."""
REFUSED_TEXT = "refused by the site's policy"


def refusal_text(reason: PublicReason) -> str:
    """Return the whole text of a refusal, e.g. ``refused by the site's policy: privacy``."""
    return f"{REFUSED_TEXT}: {reason}" if reason else REFUSED_TEXT


_BY_CODE: Mapping[str, PublicReason] = {
    "adapter": PublicReason.ADAPTER_SHAPE,
    "backbone": PublicReason.BACKBONE,
    "budget": PublicReason.PRIVACY,
    "kind": PublicReason.MESSAGE_KIND,
    "metric": PublicReason.REPORT,
    "privacy": PublicReason.PRIVACY,
    "question": PublicReason.MESSAGE_KIND,
    "rank": PublicReason.ADAPTER_SHAPE,
    "run": PublicReason.SETTINGS,
    "size": PublicReason.ADAPTER_SHAPE,
    "statistics": PublicReason.STATISTICS,
    "tensor": PublicReason.ADAPTER_SHAPE,
}
_BY_SECTION: Mapping[str, PublicReason] = {
    "backbone": PublicReason.BACKBONE,
    "lora": PublicReason.ADAPTER_SHAPE,
    "privacy": PublicReason.PRIVACY,
    "wire": PublicReason.ADAPTER_SHAPE,
}
"""By the part of a setting's key before its first dot; other sections are `SETTINGS`."""


class RefusedError(Exception):
    """Refusal of a request or a reply.

    Args:
        code: the kind of reason, one word, for the node's log.
        detail: the reason in words, for the audit log. It may quote names from the message,
            shortened. It is never sent.
        setting: key of the refused setting of the run; empty if it is none.
    """

    def __init__(self, code: str, detail: str, *, setting: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.setting = setting
        most = MAX_DETAIL_CHARACTERS
        self.detail = detail if len(detail) <= most else f"{detail[:most]}…"


def public_reason(problem: Exception) -> PublicReason:
    """Return what the coordinator may be told of a request that was refused.

    Args:
        problem: why the gate refused it; an error in the gate itself has no public reason.
    """
    if not isinstance(problem, RefusedError):
        return PublicReason.NONE
    if problem.setting:
        section = problem.setting.partition(".")[0]
        return _BY_SECTION.get(section, PublicReason.SETTINGS)
    return _BY_CODE.get(problem.code, PublicReason.NONE)
