"""Tables in GitHub-flavoured Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


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
