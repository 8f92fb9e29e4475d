"""A report's table on the console."""

from __future__ import annotations

from rich.console import Group
from rich.markup import escape
from rich.text import Text

from common.console import narrow_table
from common.reporting.components import Table
from common.reporting.export.table_files import is_number, plain_text


def console_table(table: Table) -> Group:
    """Return a caption and a table that stays readable at 80 columns.

    Numbers are set to the right and never cut off; text is folded.
    """
    drawn = narrow_table("", [plain_text(table.header[0])], [])
    for place, name in enumerate(table.header[1:]):
        right = all(is_number(row.cells[place]) for row in table.rows)
        drawn.add_column(
            escape(plain_text(name)),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for row in table.rows:
        label = f"{plain_text(row.label)}, {row.unit}" if row.unit else plain_text(row.label)
        drawn.add_row(escape(label), *(escape(plain_text(cell)) for cell in row.cells))
    # Not the table's own title, which would be folded to the table's width.
    caption = Text(plain_text(table.caption), style="italic")
    return Group(caption, drawn) if table.rows else Group(caption, "")
