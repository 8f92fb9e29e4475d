"""Table 1 of a cohort: characteristics of its patients in the form of a medical paper.

One table for all outputs: a page's `Table`, the console, Markdown and CSV show the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup
from rich.console import RenderableType
from rich.table import Table as ConsoleTable
from rich.text import Text

from common.console import narrow_table
from common.data.exclusion_flow import MOST_SITE_COLUMNS
from common.data.vitals import VITALS
from common.reporting.components import Row, Table, with_interval
from common.reporting.export.inert_csv import inert_csv
from common.reporting.markdown import table_in_markdown
from common.reporting.phrasing import NOTHING, clean_line, count_or_dash
from common.reporting.small_cells import LEAST_COUNT, SUPPRESSED

TITLE = "Table 1. Characteristics of the patients"
NOT_RECORDED = "not recorded"
_INDENT = "  "
"""Start of the label of a row that belongs to the one above."""
_DECIMALS = {"temperature_c": 1}

Group = Mapping[str, Any]
"""Characteristics of one group, see `common.data.characteristics`."""


def characteristics_table(
    characteristics: Mapping[str, Any], most_sites: int | None = None
) -> Table:
    """Return table 1: a row per characteristic, a column for all patients and one per site.

    Args:
        characteristics: see `common.data.characteristics`.
        most_sites: of more sites than this, there is the column of all patients alone.
    """
    groups = _groups(characteristics)
    if most_sites is not None and len(groups) > 1 + most_sites:
        groups = {"Overall": groups["Overall"]}
    rows = [
        Row(
            label.removeprefix(_INDENT),
            [_marked_up(cell(group)) for group in groups.values()],
            unit=unit,
            indent=label.startswith(_INDENT),
        )
        for label, unit, cell in _rows(characteristics)
    ]
    return Table(TITLE, ["Characteristic", *groups], rows)


def characteristics_notes(characteristics: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the table must know, in sentences."""
    notes = [
        "Values are n (%) or median [interquartile range], of all splits together. Sex, age and "
        "deaths are counted by patient, care unit and sepsis by stay; per cents are of those "
        "recorded."
    ]
    if _any(characteristics, lambda group: group["over_89"]):
        notes.append("Patients older than 89 years are counted with an age of 90.")
    if windows := characteristics["windows"]:
        notes.append(
            f"A window is one vital sign of one stay: {windows['context_steps']} steps of context, "
            f"{windows['horizon_steps']} to be forecast, one every {windows['stride_steps']}."
        )
    if SUPPRESSED in repr(characteristics):
        notes.append(
            f"{SUPPRESSED} = suppressed: a number from 1 to {LEAST_COUNT - 1}, or one that would "
            "give such a number away."
        )
    return notes


def characteristics_in_markdown(characteristics: Mapping[str, Any]) -> str:
    """Return the table and its notes as a Markdown document."""
    table = characteristics_table(characteristics)
    # Markdown would strip plain spaces.
    rows = [[_with_unit(row).replace(_INDENT, "\u2003"), *_plain(row.cells)] for row in table.rows]
    columns = len(table.header) - 1
    body = table_in_markdown(table.header, rows, right_aligned=columns)
    notes = "\n\n".join(characteristics_notes(characteristics)).replace(
        SUPPRESSED, f"\\{SUPPRESSED}"
    )
    return f"**{TITLE}**\n\n{body}\n\n{notes}\n"


def characteristics_in_csv(characteristics: Mapping[str, Any]) -> str:
    """Return the table as CSV, with the texts of the paper's table."""
    table = characteristics_table(characteristics)
    return inert_csv([table.header, *([_with_unit(row), *_plain(row.cells)] for row in table.rows)])


def characteristics_on_console(
    characteristics: Mapping[str, Any], width: int
) -> Iterator[ConsoleTable]:
    """Yield the table in blocks of columns that fit the console, the first with all patients.

    Args:
        characteristics: the characteristics; of more than `MOST_SITE_COLUMNS` sites only the
            overall column is shown.
        width: columns of the console.
    """
    table = characteristics_table(characteristics, MOST_SITE_COLUMNS)
    labels = [_with_unit(row) for row in table.rows]
    cells = [_plain(row.cells) for row in table.rows]
    names = list(table.header[1:])
    widths = [
        1 + max(len(name), *(len(row[place]) for row in cells)) for place, name in enumerate(names)
    ]
    room = width - 2 - max(map(len, labels))
    start = 0
    while start < len(names):
        end = start + 1
        while end < len(names) and sum(widths[start : end + 1]) <= room:
            end += 1
        block = narrow_table(TITLE if not start else "", ["characteristic"], names[start:end])
        for label, row in zip(labels, cells, strict=True):
            # Text, not markup: rich would read [brackets] as a style.
            block.add_row(*map(Text, (label, *row[start:end])))
        yield block
        start = end


def characteristics_page(
    characteristics: Mapping[str, Any], width: int
) -> Iterator[RenderableType]:
    """Yield the table for a console of a width, and its notes."""
    yield from characteristics_on_console(characteristics, width)
    for note in characteristics_notes(characteristics):
        yield Text(note, style="dim")


def _groups(characteristics: Mapping[str, Any]) -> dict[str, Group]:
    sites = {clean_line(site): group for site, group in characteristics["sites"].items()}
    # Of a single site, the overall column says the same.
    return sites if len(sites) == 1 else {"Overall": characteristics["overall"], **sites}


_Cell = Callable[[Group], str]
_Line = tuple[str, str, _Cell]
"""Label, unit and the text of a group's cell."""


def _rows(characteristics: Mapping[str, Any]) -> Iterator[_Line]:
    yield "Patients, n", "", _count_of("patients")
    yield "ICU stays, n", "", _count_of("stays")
    if characteristics["windows"]:
        yield "Windows, n", "", _count_of("windows")
    yield from _patient_rows(characteristics)
    yield from _stay_rows(characteristics)
    yield from _vital_rows()


def _patient_rows(characteristics: Mapping[str, Any]) -> Iterator[_Line]:
    yield "Age", "years", _quartiles_of("age")
    yield from _missing_row(characteristics, "age", "patients")
    if _any(characteristics, lambda group: group["over_89"]):
        yield f"{_INDENT}over 89, n (%)", "", _over_89
    yield "Female sex, n (%)", "", _female
    if _any(characteristics, lambda group: (group["sex"] or {}).get("unknown")):
        yield f"{_INDENT}{NOT_RECORDED}, n (%)", "", _unknown_sex
    yield "Died in hospital, n (%)", "", _flag_of("died")
    yield from _missing_row(characteristics, "died", "patients")


def _stay_rows(characteristics: Mapping[str, Any]) -> Iterator[_Line]:
    units = characteristics["overall"]["unit"] or {}
    yield "Care unit, n (%)", "", _text("" if units else NOT_RECORDED)
    for unit in units:
        yield f"{_INDENT}{clean_line(unit)}", "", _unit_of(unit)
    rule = clean_line(characteristics["sepsis"])
    yield f"Sepsis ({rule}), n (%)" if rule else "Sepsis, n (%)", "", _flag_of("septic")
    yield from _missing_row(characteristics, "septic", "stays")
    yield "ICU length of stay", "days", _quartiles_of("icu_days", 1)
    yield from _missing_row(characteristics, "icu_days", "stays")
    yield "Time with vital signs", "hours", _quartiles_of("observed_hours")


def _vital_rows() -> Iterator[_Line]:
    yield "Vital signs", "", _text("")
    for vital in VITALS:
        yield f"{_INDENT}{vital.label}", vital.unit, _values_of(vital.name)
    yield "Time steps without a value, n (%)", "", _text("")
    for vital in VITALS:
        yield f"{_INDENT}{vital.label}", "", _missing_of(vital.name)


def _missing_row(characteristics: Mapping[str, Any], name: str, total: str) -> Iterator[_Line]:
    """Yield a row of those not recorded, if the source records some but not all."""

    def missing(group: Group) -> Any:
        if group[name] is None:
            return group[total]
        known = group[name]["known"]
        return SUPPRESSED if known == SUPPRESSED else group[total] - known

    def cell(group: Group) -> str:
        return _share_of(missing(group), group[total])

    recorded = characteristics["overall"][name] is not None
    if recorded and _any(characteristics, missing):
        yield f"{_INDENT}{NOT_RECORDED}, n (%)", "", cell


def _text(text: str) -> _Cell:
    return lambda _: text


def _count_of(name: str) -> _Cell:
    return lambda group: count_or_dash(group[name])


def _quartiles_of(name: str, decimals: int = 0) -> _Cell:
    return lambda group: _quartiles(group[name], decimals)


def _values_of(vital: str) -> _Cell:
    return lambda group: _quartiles(group["vitals"][vital], _DECIMALS.get(vital, 0))


def _missing_of(vital: str) -> _Cell:
    return lambda group: _share_of(group["vitals"][vital]["missing"], group["steps"])


def _unit_of(unit: str) -> _Cell:
    def cell(group: Group) -> str:
        units = group["unit"]
        return NOT_RECORDED if units is None else _share_of(units.get(unit, 0), group["stays"])

    return cell


def _flag_of(name: str) -> _Cell:
    def cell(group: Group) -> str:
        flag = group[name]
        return NOT_RECORDED if flag is None else _share_of(flag["yes"], flag["known"])

    return cell


def _over_89(group: Group) -> str:
    return _share_of(group["over_89"], (group["age"] or {}).get("known"))


def _unknown_sex(group: Group) -> str:
    return _share_of((group["sex"] or {}).get("unknown"), group["patients"])


def _female(group: Group) -> str:
    sex = group["sex"]
    if sex is None:
        return NOT_RECORDED
    counts = (sex["female"], sex["male"])
    return SUPPRESSED if SUPPRESSED in counts else _share_of(counts[0], sum(counts))


def _any(characteristics: Mapping[str, Any], value: Callable[[Group], Any]) -> bool:
    return any(value(group) for group in _groups(characteristics).values())


def _share_of(count: Any, total: Any) -> str:
    """Return a count with its per cent of a total, e.g. ``12 (3.4)``."""
    if count is None or total is None:
        return NOT_RECORDED
    if SUPPRESSED in (count, total):
        return SUPPRESSED
    return f"{count:,} ({100 * count / total:.1f})" if total else NOTHING


def _quartiles(of: Group | None, decimals: int) -> str:
    """Return a median with its quartiles, e.g. ``64 [52, 77]``."""
    if of is None:
        return NOT_RECORDED
    if of["median"] is None:
        return SUPPRESSED if of["known"] == SUPPRESSED else NOTHING
    q1, median, q3 = (f"{of[key]:.{decimals}f}" for key in ("q1", "median", "q3"))
    return f"{median} [{q1}, {q3}]"


def _marked_up(text: str) -> str:
    """Return a cell for the page: the quartiles may go below the median in a narrow column."""
    median, bracket, ends = text.partition(" [")
    if not bracket:
        return text
    return with_interval(median, bracket.strip() + ends)


def _plain(cells: Sequence[str]) -> list[str]:
    return [cell.striptags() if isinstance(cell, Markup) else cell for cell in cells]


def _with_unit(row: Row) -> str:
    label = f"{_INDENT}{row.label}" if row.indent else row.label
    return f"{label}, {row.unit}" if row.unit else label
