"""Colours of Flower's log: its handler writes their codes into files and pipes too."""

from __future__ import annotations

import logging
import os


def plain_flower_log() -> None:
    """Turn off the colours of Flower's log where its stream is no terminal that shows them.

    Flower colours the log when it is imported; call it after that. It has no setting for it.
    """
    for handler in logging.getLogger("flwr").handlers:
        stream = getattr(handler, "stream", None)
        if hasattr(handler, "colored") and not _shows_colour(stream):
            handler.colored = False


def _shows_colour(stream: object) -> bool:
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    # A closed stream cannot be asked.
    return not getattr(stream, "closed", False) and bool(getattr(stream, "isatty", bool)())
