"""Error that keeps a message at the site."""

from __future__ import annotations

MAX_DETAIL_CHARACTERS = 500
"""Limit of a detail: it may quote what was received, and is kept in a log that only grows."""


class RefusedError(Exception):
    """Refusal of a request or a reply.

    Args:
        code: the kind of reason, one word, for the node's log.
        detail: the reason in words, for the audit log. It may quote names from the message,
            shortened. Neither code nor detail is ever sent.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        most = MAX_DETAIL_CHARACTERS
        self.detail = detail if len(detail) <= most else f"{detail[:most]}…"
