"""A run's rounds as lines for the console, read from its rounds.jsonl as they end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.runs.run_folder import read_rounds


class RoundLines:
    """Says each round once.

    Args:
        folder: the run folder, which need not exist yet.
        rounds: of the run.
        say: called with each line.
    """

    def __init__(self, folder: Path, rounds: int, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._rounds = rounds
        self._say = say
        self._said = 0

    def look(self) -> None:
        """Say the rounds that have ended since the last look."""
        for entry in read_rounds(self._folder)[self._said :]:
            self._said += 1
            self._say(_line(entry, self._rounds))


def _line(entry: dict[str, Any], rounds: int) -> str:
    """One round: who replied, how good the adapter that it began with was, how long it took."""
    sites = entry["sites"]
    refused = [f"{name} refused: {s['refused']}" for name, s in sites.items() if "refused" in s]
    number = entry["round"]
    what = f"round {number} of {rounds}" if number <= rounds else "last validation"
    parts = [f"{what}: {len(sites) - len(refused)} of {len(sites)} sites"]
    if entry["validation_wql"] is not None:
        parts.append(f"WQL of round {entry['validated_round']} {entry['validation_wql']:.4f}")
    if "seconds" in entry:
        parts.append(f"{entry['seconds']:.0f} s")
    return ", ".join([*parts, *refused])
