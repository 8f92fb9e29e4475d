"""Console lines of a run's rounds, read from its rounds.jsonl while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.runs.run_folder import read_rounds


class RoundLines:
    """Printer of one line per round.

    Args:
        folder: the run folder, which need not exist yet.
        rounds: number of rounds of the run.
        print_line: called with each line.
    """

    def __init__(self, folder: Path, rounds: int, print_line: Callable[[str], None]) -> None:
        self._folder = folder
        self._rounds = rounds
        self._print_line = print_line
        self._printed = 0

    def print_new(self) -> None:
        """Print the rounds that have ended since the last call."""
        for entry in read_rounds(self._folder)[self._printed :]:
            self._printed += 1
            self._print_line(_line(entry, self._rounds))


def _line(entry: dict[str, Any], rounds: int) -> str:
    """Line of one round: sites that replied, validation of its first adapter, wall time."""
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
