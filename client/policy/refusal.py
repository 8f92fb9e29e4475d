"""Why a message does not leave."""

from __future__ import annotations

MOST_CHARACTERS = 500
"""Of a detail: it may quote what came, and stands in a log that only grows."""


class RefusedError(Exception):
    """A message that stays at the site.

    Args:
        code: the kind of reason, one word; it stands in the node's log.
        detail: the reason in words. It may quote names from the message, shortened, and stands in
            the audit log, which stays at the site. Neither is ever sent.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail if len(detail) <= MOST_CHARACTERS else f"{detail[:MOST_CHARACTERS]}…"
