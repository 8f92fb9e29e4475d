"""Editor of one table in an array of a TOML file, `[[name]]`, that keeps all other bytes.

It works on lines, not TOML's whole grammar, to keep comments and layout. The TOML parser then
verifies that the edit changed what it should, and nothing else.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

Changes = Mapping[str, str | None]
"""Keys with their new texts; None removes a key."""

_ANY_HEADER = re.compile(r"[ \t]*\[")
_NO_KEY = re.compile(r"[ \t]*(#.*)?\r?$")
_VALUE = r"""("(?:[^"\\]|\\.)*"|'[^']*'|[^#'"]*[^#'"\s])"""


def change_table(text: str, name: str, index: int, changes: Changes) -> str | None:
    """Set or remove keys of one table.

    Args:
        text: the file's text.
        name: name of the array.
        index: index of the table; the array's length appends a new table to the file.
        changes: the keys to set or remove.

    Returns:
        The edited text; None if its layout is not supported and must be edited by hand.
    """
    edited = _edited(text, name, index, changes)
    try:
        done = tomllib.loads(edited) == _wanted(text, name, index, changes)
    except tomllib.TOMLDecodeError:
        return None
    return edited if done else None


def toml_line(key: str, value: str) -> str:
    """Return the line that sets a key to a text, without a line break."""
    # A JSON string without control characters beyond its escapes is a basic string of TOML.
    quoted = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"{key} = {quoted}"


def _wanted(text: str, name: str, index: int, changes: Changes) -> dict[str, Any]:
    wanted: dict[str, Any] = tomllib.loads(text)
    tables = wanted.setdefault(name, [])
    if index == len(tables):
        tables.append({})
    for key, value in changes.items():
        tables[index].pop(key, None)
        if value is not None:
            tables[index][key] = value
    return wanted


def _edited(text: str, name: str, index: int, changes: Changes) -> str:
    header = re.compile(rf"[ \t]*\[\[[ \t]*{re.escape(name)}[ \t]*\]\][ \t]*(#.*)?\r?$")
    end_of_line = "\r" if "\r\n" in text else ""
    lines = text.split("\n")
    begins = [number for number, line in enumerate(lines) if header.match(line)]
    if index >= len(begins):
        new = [
            f"[[{name}]]",
            *(toml_line(key, value) for key, value in changes.items() if value is not None),
        ]
        gap = [""] if text.endswith("\n") else [] if not text else ["", ""]
        return text + "\n".join(f"{line}{end_of_line}" for line in [*gap, *new]) + "\n"
    begin = begins[index] + 1
    end = begin
    while end < len(lines) and not _ANY_HEADER.match(lines[end]):
        end += 1
    while end > begin and _NO_KEY.match(lines[end - 1]):
        end -= 1  # comments directly above the next header belong to it
    changed = _changed(lines[begin:end], changes, end_of_line)
    return "\n".join([*lines[:begin], *changed, *lines[end:]])


def _changed(lines: list[str], changes: Changes, end_of_line: str) -> list[str]:
    """Return one table's lines with each key set in place, or at the end if it is new."""
    for key, value in changes.items():
        pattern = re.compile(rf"[ \t]*{re.escape(key)}[ \t]*=[ \t]*{_VALUE}")
        found = next((match for line in lines if (match := pattern.match(line))), None)
        new = [] if value is None else [toml_line(key, value)]
        if found is None:
            lines = [*lines, *(f"{line}{end_of_line}" for line in new)]
            continue
        at = lines.index(found.string)
        lines[at : at + 1] = [f"{line}{found.string[found.end() :]}" for line in new]
    return lines
