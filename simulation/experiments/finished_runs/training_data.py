"""Facts in which the training data of runs differ, as the sites reported them to each run.

A run records no digest of its training tables, only what its sites sent. Equal facts therefore do
not prove that the tables are the same; different ones show that they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simulation.experiments.finished_runs.finished_run import FinishedRun

_FACTS = ("source", "rule", "step_minutes", "patients", "windows")

Group = Sequence[FinishedRun]


def differing_training(a: Group, b: Group) -> dict[str, tuple[list[Any], list[Any]]]:
    """Return the facts that differ, by site and fact: the values of `a` and of `b`.

    A fact that a private run keeps to itself is not compared.
    """
    groups = [[run.record.sites for run in group] for group in (a, b)]
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    for site in sorted({site for group in groups for sites in group for site in sites}):
        abouts = [[sites.get(site) for sites in group] for group in groups]
        if any(about is None for group in abouts for about in group):
            took_part = [["no" if about is None else "yes" for about in group] for group in abouts]
            found[f"{site}: trained"] = (took_part[0], took_part[1])
            continue
        for fact in _FACTS:
            values = [[about.get(fact) for about in group if about] for group in abouts]
            known = [value for group in values for value in group]
            if None not in known and len(set(known)) > 1:
                found[f"{site}: {fact.replace('_', ' ')}"] = (values[0], values[1])
    return found
