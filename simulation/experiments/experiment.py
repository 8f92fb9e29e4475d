"""An experiment: its question, its arms, and what they are compared with."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from common.names import check_name
from simulation.experiments.cell_cache import Cell


@dataclass(frozen=True)
class Experiment:
    """What is run, and how its page introduces it.

    Attributes:
        name: of its folder.
        title: of its page.
        question: in one or two sentences.
        groups: cells by the group that `--only` names, in the order in which they are run.
        references: arms that the others are compared with, the first one in the figures.
        notes: what a reader has to know about the arms.
        by_group: whether results are told by age band and sex too, where the source has them.
    """

    name: str
    title: str
    question: str
    groups: dict[str, list[Cell]]
    references: tuple[str, ...]
    notes: tuple[str, ...] = ()
    by_group: bool = False

    def cells(self, only: Collection[str] = ()) -> list[Cell]:
        """Return the cells of some groups, or of all, and always those that are references.

        Raises:
            UsageError: where there is no such group.
        """
        for name in only:
            check_name("group of this experiment", name, self.groups)
        chosen: dict[str, Cell] = {}
        for group, cells in self.groups.items():
            for cell in cells:
                if not only or group in only or cell.arm in self.references:
                    chosen.setdefault(cell.arm, cell)
        return list(chosen.values())
