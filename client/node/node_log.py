"""The node's log: JSON lines of fixed texts, without exception texts or patient data.

Messages of other libraries are reduced to the format string in their code; of its arguments only
numbers, ids and message kinds are kept.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from typing import Any

from client.config.site_config import LogSection

OWN = "fedvitals"
_ID = re.compile(r"[0-9a-fA-F]{16,64}|[0-9.]{1,24}|train|evaluate|query")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class JsonLinesFormatter(logging.Formatter):
    """Formats each record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; of an exception only its type is kept."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _text(record),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = record.exc_info[0].__name__
        return json.dumps(line, ensure_ascii=True)


def set_up_log(section: LogSection) -> None:
    """Route everything that is logged in this process through `JsonLinesFormatter`."""
    handler: logging.Handler
    if section.file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        section.file.parent.mkdir(parents=True, exist_ok=True)
        handler = WatchedFileHandler(section.file, encoding="utf-8")  # log rotation moves the file
    handler.setFormatter(JsonLinesFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(section.level.upper())
    flower = logging.getLogger("flwr")
    flower.handlers.clear()
    flower.propagate = True
    flower.setLevel(logging.NOTSET)
    for name in ("httpx", "httpcore", "uvicorn"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _text(record: logging.LogRecord) -> str:
    if record.name.split(".")[0] == OWN:
        return _CONTROL.sub(" ", record.getMessage())
    if not isinstance(record.msg, str):
        return type(record.msg).__name__
    given = record.args if isinstance(record.args, tuple) else ()
    try:
        text = record.msg % tuple(_harmless(value) for value in given)
    except (TypeError, ValueError):
        text = record.msg
    # Flower's exit messages have the text of exceptions after the first line.
    return _CONTROL.sub(" ", text.split("\n")[0])


def _harmless(value: object) -> object:
    if isinstance(value, int | float) or (isinstance(value, str) and _ID.fullmatch(value)):
        return value
    return f"<{type(value).__name__}>"
