"""Console lines of a run's rounds, read from its run folder while it runs.

A run folder may hold rounds of an earlier start of the same run, or of another run. config.json
lists the starts (`Start`), so that only the rounds of the followed one are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from common.adapter.trained_adapter import RUN_CONFIG_FILE
from common.errors import FederationError
from server.runs.run_folder import ROUNDS_FILE, read_rounds, read_run_config

STARTS = "starts"
"""Key of config.json: the starts of the run, the first and each resumption."""


class Start(NamedTuple):
    """One start of a run.

    Attributes:
        flower_run: Flower's id of the run.
        after_round: the last round that was complete before; 0 at the first start.
        lines: number of lines in rounds.jsonl before.
    """

    flower_run: str
    after_round: int
    lines: int


class RoundLines:
    """Printer of one line per round of one start of a run.

    Args:
        folder: the run folder, which need not exist yet.
        print_line: called with each line.
        flower_run: Flower's id of the followed run; empty = the next start in the folder.

    Attributes:
        begun: whether the followed run has begun in the folder, as far as `print_new` has seen.
        after_round: the last round that was complete before it began.
    """

    def __init__(
        self, folder: Path, print_line: Callable[[str], None], flower_run: str = ""
    ) -> None:
        self._folder = folder
        self._print_line = print_line
        self._flower_run = flower_run
        self._before = len(_starts(_config(folder)))
        self._printed = 0
        self._seen: tuple[tuple[int, int], ...] = ()
        self._records: list[dict[str, Any]] = []
        self.begun = False
        self.after_round = 0

    def print_new(self) -> list[dict[str, Any]]:
        """Print the rounds that have ended since the last call.

        Returns:
            The records of all rounds of this start so far.
        """
        # Called before each site's work: with many sites, reading both files every time would take
        # longer than the training.
        seen = tuple(_state(self._folder / name) for name in (RUN_CONFIG_FILE, ROUNDS_FILE))
        if seen != self._seen:
            self._records = self._read_new()
            self._seen = seen
        return self._records

    def _read_new(self) -> list[dict[str, Any]]:
        config = _config(self._folder)
        starts = _starts(config)
        index = self._index(starts)
        if index is None:
            return []
        start = starts[index]
        if not self.begun and start.after_round:
            self._print_line(f"resuming after round {start.after_round}")
        self.begun, self.after_round = True, start.after_round
        # A later start has rewritten the lines from its own first one on.
        end = starts[index + 1].lines if index + 1 < len(starts) else None
        records = read_rounds(self._folder)[start.lines : end]
        for record in records[self._printed :]:
            self._print_line(round_line(record, int(config["settings"]["rounds"])))
        self._printed = max(self._printed, len(records))
        return records

    def _index(self, starts: list[Start]) -> int | None:
        """Place of the followed start; None where it has not begun."""
        if not self._flower_run:
            return self._before if self._before < len(starts) else None
        found = [i for i, start in enumerate(starts) if start.flower_run == self._flower_run]
        return found[-1] if found else None


def round_line(record: Mapping[str, Any], rounds: int) -> str:
    """Return the line of one round: sites that replied, validation of its adapter, wall time."""
    sites = record["sites"]
    refused = [f"{name} refused: {s['refused']}" for name, s in sites.items() if "refused" in s]
    number, wql = record["round"], record["validation_wql"]
    last = number > rounds
    parts = [
        f"{'last validation' if last else f'round {number} of {rounds}'}: "
        f"{len(sites) - len(refused)} of {len(sites)} sites"
    ]
    if wql is not None:
        name = "WQL" if last else "validation WQL"
        parts.append(f"{name} of round {record['validated_round']}'s adapter {wql:.4f}")
    if "seconds" in record:
        parts.append(f"{record['seconds']:.0f} s")
    if "failed" in record:
        parts.append(f"failed: {record['failed']}")
    return ", ".join([*parts, *refused])


def _state(path: Path) -> tuple[int, int]:
    """Return the size and the time of the last change of a file; zeros where there is none."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _config(folder: Path) -> dict[str, Any]:
    try:
        return read_run_config(folder)
    except FederationError:  # it is not there yet
        return {}


def _starts(config: Mapping[str, Any]) -> list[Start]:
    return [Start(**start) for start in config.get(STARTS, [])]
