"""Tables of a report as CSV and LaTeX, from the same `Table` that the page shows.

CSV has every number at full precision and a column for each end of an interval. LaTeX has the
rounded text of the page and needs no package but booktabs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from markupsafe import Markup

from common.reporting.cells import NumberCell
from common.reporting.components import Row, Table
from common.reporting.export.inert_csv import inert_csv
from common.reporting.phrasing import NOTHING

_THOUSANDS = re.compile(r"\d{1,3}(,\d{3})+")

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    # Brackets after a line break would be read as its optional argument.
    "[": "{[}",
    "]": "{]}",
    "−": "$-$",  # noqa: RUF001
    "–": "--",  # noqa: RUF001
    "—": "---",
    "\u00a0": "~",
    "…": r"\ldots{}",
    "°": r"$^\circ$",
    "×": r"$\times$",  # noqa: RUF001
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "ε": r"$\varepsilon$",
    "δ": r"$\delta$",
    "σ": r"$\sigma$",  # noqa: RUF001
    "α": r"$\alpha$",  # noqa: RUF001
    "µ": r"$\mu$",
    "μ": r"$\mu$",
}


def csv_table(table: Table) -> str:
    """Return a table as CSV: a line of names with units, then a line per row.

    A number whose text on the page is a dash is an empty cell. Units that differ by row are in a
    column of their own.
    """
    units = any(row.unit for row in table.rows)
    columns = [_column(table.rows, place) for place in range(len(table.header) - 1)]
    header = [plain_text(table.header[0]), *(["unit"] if units else [])]
    for name, cells in zip(table.header[1:], columns, strict=True):
        header += _column_names(plain_text(name), cells)
    lines = [header]
    for place, row in enumerate(table.rows):
        line = [plain_text(row.label), *([row.unit] if units else [])]
        for cells in columns:
            line += _values(cells[place], with_ends=_has_interval(cells))
        lines.append(line)
    return inert_csv(lines)


def latex_table(table: Table, name: str) -> str:
    r"""Return a table as a LaTeX float with booktabs rules.

    Args:
        table: the table.
        name: its label is ``tab:NAME``.
    """
    places = range(len(table.header) - 1)
    numeric = [all(is_number(cell) for cell in _column(table.rows, p)) for p in places]
    layout = "l" + "".join("r" if right else "l" for right in numeric)
    lines = [
        "% Made by fedvitals; needs \\usepackage{booktabs}.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.caption)}}}",
        rf"\label{{tab:{name}}}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        _latex_line(table.header),
        r"\midrule",
    ]
    for place, row in enumerate(table.rows):
        if row.mean and place:
            lines.append(r"\midrule")
        label = f"{plain_text(row.label)} ({row.unit})" if row.unit else row.label
        lines.append(_latex_line([label, *row.cells]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def latex_text(text: str) -> str:
    """Return text that LaTeX prints as it is; a letter that its fonts lack as its base letter."""
    return "".join(_latex_character(character) for character in plain_text(text))


def plain_text(text: str) -> str:
    """Return a cell or a label as one line of text, without the page's markup."""
    if isinstance(text, NumberCell):
        return text.plain
    if isinstance(text, Markup):
        return text.replace("<br>", " ").striptags()
    return str(text)


def is_number(cell: str) -> bool:
    """Return whether a cell is set to the right: a number, or empty."""
    text = plain_text(cell)
    return isinstance(cell, NumberCell) or text in ("", NOTHING) or text[:1].isdigit()


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if character.isascii():
        return character if character.isprintable() else " "
    # LaTeX reads UTF-8 itself, and its default fonts have the letters of western Europe.
    if "À" <= character <= "ÿ":
        return character
    base = unicodedata.normalize("NFKD", character)
    return "".join(_LATEX.get(part, part) for part in base if part.isascii()) or "?"


def _column(rows: Sequence[Row], place: int) -> list[str]:
    return [row.cells[place] for row in rows]


def _has_interval(cells: Sequence[str]) -> bool:
    return any(isinstance(cell, NumberCell) and cell.low is not None for cell in cells)


def _column_names(name: str, cells: Sequence[str]) -> list[str]:
    units = {cell.unit for cell in cells if isinstance(cell, NumberCell) and cell.unit}
    unit = f" ({units.pop()})" if len(units) == 1 else ""
    ends = [f"{name}, 95 % {end}{unit}" for end in ("low", "high")]
    return [f"{name}{unit}", *(ends if _has_interval(cells) else [])]


def _values(cell: str, *, with_ends: bool) -> list[str]:
    if isinstance(cell, NumberCell):
        numbers = [cell.value, cell.low, cell.high] if with_ends else [cell.value]
        return ["" if number is None else repr(number) for number in numbers]
    text = plain_text(cell)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    text = "" if text == NOTHING else text
    return [text, "", ""] if with_ends else [text]
