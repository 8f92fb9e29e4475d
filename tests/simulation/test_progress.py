"""Progress of a run in a pseudo-terminal and in a pipe."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

SCRIPT = """
import sys, time
from pathlib import Path
from common.console import error_console
from server.runs.follow import STARTS, Start
from server.runs.run_folder import RunFolder
from simulation.progress import RunProgress

def line(number):
    sites = {"ccu": {}, "a-care-unit-with-quite-a-long-name-of-sixty-four-characters-in-it": {}}
    return {"round": number, "sites": sites, "validated_round": number - 1,
            "validation_wql": 0.07, "seconds": 3.0}

out = Path(sys.argv[1])
old = RunFolder(out)
old.write_config({"settings": {"rounds": 9}, STARTS: [Start("1", 0, 0)._asdict()]})
old.append_round(line(1))
progress = RunProgress(out, 2, error_console())
progress.expect(2)
with progress.shown():
    starts = [Start("1", 0, 0)._asdict(), Start("1", 0, 1)._asdict()]
    old.write_config({"settings": {"rounds": 2}, STARTS: starts})
    for number in (1, 2, 3):
        for site in line(number)["sites"]:
            progress.site_works("train" if number < 3 else "evaluate", site)
            time.sleep(0.15)
        old.append_round(line(number))
    progress.look()
"""
LINES = [
    "round 1 of 2: 2 of 2 sites, validation WQL of round 0's adapter 0.0700, 3 s",
    "round 2 of 2: 2 of 2 sites, validation WQL of round 1's adapter 0.0700, 3 s",
    "last validation: 2 of 2 sites, WQL of round 2's adapter 0.0700, 3 s",
]
_CODE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")


def output(folder: Path, columns: int, **variables: str) -> list[str]:
    """Return the rows that a pseudo-terminal gets, without cursor movements and colours."""
    environment = {**os.environ, "TERM": "xterm", **variables}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        environment.pop(name, None)
    child = pexpect.spawn(
        sys.executable,
        ["-c", SCRIPT, str(folder / "run")],
        dimensions=(24, columns),
        env=environment,
        timeout=60,
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0, child.before
    return [row.strip() for row in re.split(r"[\r\n]+", _CODE.sub("", str(child.before)))]


@pytest.mark.parametrize("columns", [80, 200])
def test_a_terminal_shows_a_line_a_round_and_a_bar_that_moves(columns: int, tmp_path: Path) -> None:
    rows = output(tmp_path, columns)
    assert [row for row in rows if row in LINES] == LINES
    bars = [row for row in rows if "━" in row]
    assert max(map(len, bars)) <= columns, "a bar on two rows would stay on the screen"
    shares = [int(found[1]) for row in bars if (found := re.search(r"(\d+)%", row))]
    assert {17, 33, 50, 67, 83} <= set(shares), "it moves within the rounds"
    assert shares == sorted(shares)
    assert all(re.search(r"\d+%.*0:00:0", row) for row in bars), "nothing but the name is cut"
    assert "of 9" not in " ".join(rows), "a round of the older run"


def test_a_terminal_without_a_cursor_and_a_pipe_get_the_same_lines(tmp_path: Path) -> None:
    (tmp_path / "dumb").mkdir()
    assert [row for row in output(tmp_path / "dumb", 80, TERM="dumb") if row] == LINES
    piped = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert piped.stderr.splitlines() == LINES
