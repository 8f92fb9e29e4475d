"""Text of a suggested mapping: TOML whose lines each say why, and TODO where that is unsure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

_COLUMN = 40
TODO = "TODO"


@dataclass
class SuggestedSection:
    """A table of the mapping.

    Attributes:
        name: its name; empty for the keys at the top.
        lines: the lines below the name.
    """

    name: str
    lines: list[str] = field(default_factory=list)

    def add(self, key: str, value: object, why: str, *, sure: bool = True) -> None:
        """Add a key with a comment.

        Args:
            key: its name.
            value: a text, number, boolean or list of them.
            why: reason for the value, or what has to be confirmed.
            sure: False marks the line with TODO.
        """
        self.lines.append(_commented(f"{key} = {toml(value)}", why, sure))

    def add_raw(self, text: str, why: str, *, sure: bool = True) -> None:
        """Add a line of TOML, which may be several, with a comment."""
        self.lines.append(_commented(text, why, sure))

    def note(self, text: str, *, sure: bool = False) -> None:
        """Add a comment of its own line."""
        self.lines.append(f"# {'' if sure else TODO + ': '}{printable_line(text)}")


def toml(value: object) -> str:
    """Return a text, a number, a boolean or a list of them as TOML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml, value))}]"
    # JSON's texts are TOML's, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def printable_line(text: str) -> str:
    """Return a text as one line without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def mapping_toml(head: list[str], sections: list[SuggestedSection]) -> str:
    """Return the mapping's text.

    Args:
        head: comments at the top.
        sections: the tables; those without a line are left out.
    """
    parts = ["\n".join(f"# {printable_line(line)}".rstrip() for line in head)]
    for section in sections:
        if section.lines:
            name = [f"[{section.name}]"] if section.name else []
            parts.append("\n".join([*name, *section.lines]))
    return "\n\n".join(parts) + "\n"


def _commented(text: str, why: str, sure: bool) -> str:
    comment = printable_line(why) if sure else f"{TODO}: {printable_line(why)}"
    first, newline, rest = text.partition("\n")
    return f"{first.ljust(_COLUMN)}  # {comment}{newline}{rest}"
