"""SuggestedSection of one vital sign in a suggested mapping."""

from __future__ import annotations

from client.ingest.suggest.mapping_text import SuggestedSection, toml
from client.ingest.suggest.value_units import UnitGuess
from client.ingest.suggest.vital_sources import FoundSource
from client.ingest.units import UNITS


def vital_section(vital: str, found: list[FoundSource], *, is_long: bool) -> SuggestedSection:
    """Return `[vitals.NAME]`.

    Args:
        vital: the vital sign.
        found: its sources, the preferred first.
        is_long: whether they are codes; else they are columns.
    """
    section = SuggestedSection(f"vitals.{vital}")
    groups = _groups(found, is_long=is_long)
    if len(groups) == 1:
        _add_one(section, vital, groups[0], is_long=is_long)
        return section
    section.add("combine", "priority", "of an hour, the first source that has a value")
    parts = []
    for group in groups:
        unit = group[0].unit.unit
        keys = [f"codes = {toml([one.name for one in group])}"] if is_long else []
        keys += [] if is_long else [f"column = {toml(group[0].name)}"]
        keys += [f"unit = {toml(unit)}"] if unit else []
        parts.append(f"    {{ {', '.join(keys)} }},  # {_why(vital, group)}")
    section.add_raw("\n".join(["sources = [", *parts, "]"]), "the most trusted first", sure=True)
    return section


def _add_one(
    section: SuggestedSection, vital: str, group: list[FoundSource], *, is_long: bool
) -> None:
    sure = all(one.meaning.is_sure for one in group)
    why = "by name" if sure else "by name, which may also stand for something else"
    if is_long:
        section.add("codes", [one.name for one in group], why, sure=sure)
    else:
        section.add("column", group[0].name, why, sure=sure)
    guess = group[0].unit
    if guess.unit:
        section.add("unit", guess.unit, _unit_why(vital, guess), sure=guess.is_sure)
    elif not guess.is_sure:
        section.note(_unit_why(vital, guess))


def _groups(found: list[FoundSource], *, is_long: bool) -> list[list[FoundSource]]:
    """Return sources that share a line: codes of one kind and unit; columns never do."""
    groups: dict[tuple[object, ...], list[FoundSource]] = {}
    for source in found:
        key: tuple[object, ...] = (source.meaning.is_invasive, source.unit.unit)
        groups.setdefault(key if is_long else (source.name,), []).append(source)
    return list(groups.values())


def _why(vital: str, group: list[FoundSource]) -> str:
    parts = ["arterial" if group[0].meaning.is_invasive else "by name"]
    guess = group[0].unit
    if guess.unit or not guess.is_sure:
        parts.append(_unit_why(vital, guess))
    unsure = not (guess.is_sure and all(one.meaning.is_sure for one in group))
    return ("TODO: " if unsure else "") + "; ".join(parts)


def _unit_why(vital: str, guess: UnitGuess) -> str:
    unit = guess.unit or UNITS[vital][0].name
    text = f"{100 * guess.share:.0f} % of the values are plausible in {unit}"
    if guess.others:
        text += f", others in {' or '.join(guess.others)}: units are mixed"
    return text
