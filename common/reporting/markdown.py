"""Tables in GitHub-flavoured Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from common.reporting.phrasing import clean_line

_LONGEST_TEXT = 200
_MARKUP = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def escape_markdown(text: object, longest: int = _LONGEST_TEXT) -> str:
    """Return text as one line of at most `longest` characters in which Markdown reads no markup."""
    return _MARKUP.sub(r"\\\1", clean_line(text, longest))


def table_in_markdown(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, right_aligned: int = 0
) -> str:
    """Return a table as Markdown lines, without a line break at the end.

    Args:
        header: one cell a column.
        rows: cells in Markdown; the caller escapes ``|`` in other people's text.
        right_aligned: how many of the last columns are set to the right.
    """
    left = len(header) - right_aligned
    rule = "|" + "---|" * left + "--:|" * right_aligned
    return "\n".join([_line(header), rule, *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
