"""An experiment and its arms, the study that builds one, and the summary that heads its page."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from common.names import check_name
from common.reporting.components import Figure, Section, Tile
from simulation.experiments.cell_cache import Cell

if TYPE_CHECKING:
    from simulation.experiments.analysis.analysis import Analysis


@dataclass(frozen=True)
class Experiment:
    """Arms to run and the texts that introduce them on the page.

    Attributes:
        name: name of the output folder.
        title: title of the page.
        question: one or two sentences.
        groups: cells by the group that `--only` names, in the order in which they run.
        references: arms that the others are compared with; the figures use the first.
        notes: facts about the arms that a reader needs.
        by_group: also report results by age band and sex, where the cohort has them.
    """

    name: str
    title: str
    question: str
    groups: dict[str, list[Cell]]
    references: tuple[str, ...]
    notes: tuple[str, ...] = ()
    by_group: bool = False

    def cells(self, only: Collection[str] = ()) -> list[Cell]:
        """Return the cells of the groups in `only` (all if empty) and those of the references.

        Raises:
            UsageError: `only` names an unknown group.
        """
        for name in only:
            check_name("group of this experiment", name, self.groups)
        chosen: dict[str, Cell] = {}
        for group, cells in self.groups.items():
            for cell in cells:
                if not only or group in only or cell.arm in self.references:
                    chosen.setdefault(cell.arm, cell)
        return list(chosen.values())


@dataclass(frozen=True)
class StudySummary:
    """Result of one study for the head of its page.

    Attributes:
        headline: the result in one sentence.
        tiles: key figures.
        findings: paragraphs; no stronger than their intervals.
        warnings: results that must not be overlooked.
        figures: figures by file name, shown after the differences of all arms.
        sections: extra sections, shown before the standard ones.
    """

    headline: str
    tiles: Sequence[Tile] = ()
    findings: Sequence[str] = ()
    warnings: Sequence[str] = ()
    figures: Sequence[tuple[str, Figure]] = ()
    sections: Sequence[Section] = ()


@dataclass(frozen=True)
class Study:
    """One question: how its experiment is built and how its analysis is summarised.

    Attributes:
        command: the words after ``python -m simulation``.
        build: returns the experiment from the shared settings, the folder that experiments share
            and, as keywords, the study's own options.
        summarise: returns the summary of an analysis.
    """

    command: str
    build: Callable[..., Experiment]
    summarise: Callable[[Analysis], StudySummary]

    def command_line(self, options: Mapping[str, Any]) -> str:
        """Return the command with the study's own options.

        A list becomes one comma-separated value, a tuple a repeated option; 0, "" and empty
        sequences are left out.
        """
        words = [f"python -m simulation {self.command}"]
        for name, value in options.items():
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')} {_as_text(one)}" for one in values if one]
        return " ".join(words)


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_as_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
