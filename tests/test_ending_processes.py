"""Commands as processes of their own, interrupted at several moments and on a disk that is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.ingest.hospital import LONG, hours_of, write_rows
from tests.samples.signals import heed_signals

REPOSITORY = Path(__file__).resolve().parents[1]
PATIENTS = 2_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def commands(
    tmp_path_factory: pytest.TempPathFactory, tiny_bolt: Path, tiny_cohort: Path
) -> dict[str, str]:
    """Commands by name, each of a few seconds; {out} is the folder to write."""
    files = tmp_path_factory.mktemp("files")
    mapping = LONG.format(zone="UTC", stay='id = "enc"', min_hours=0)
    (files / "mapping.toml").write_text(mapping, encoding="utf-8")
    values = {hour: str(60 + hour) for hour in range(48)}
    rows = [row for number in range(PATIENTS) for row in hours_of(str(number), str(number), values)]
    write_rows(files / "t.csv", rows)
    return {
        "ingest": f"client ingest --mapping {files}/mapping.toml --table {files}/t.csv "
        "--out {out}",
        "prepare": "simulation prepare synthetic --stays 60 --sepsis none --out {out}",
        "run": f"simulation run --data {tiny_cohort} --backbone {tiny_bolt} --out {{out}} "
        "--rounds 500 -c lora.rank=2 -c windows.context=24 -c train.steps=2",
    }


def popen(words: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *words.format(out=folder / "out").split()],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "fedvitals-home" not in path.name]


@pytest.mark.parametrize("seconds", [0.5, 1.5, 4.0])
@pytest.mark.parametrize("name", ["ingest", "prepare", "run"])
def test_ctrl_c_at_any_moment_is_one_line(
    commands: dict[str, str], name: str, seconds: float, tmp_path: Path
) -> None:
    process = popen(commands[name], tmp_path)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    if process.returncode == 0:  # a fast machine
        assert (tmp_path / "out").is_dir()
        return
    if seconds == 0.5 and "common/interrupts" not in error and process.returncode != 130:
        return  # Python itself had not started
    assert process.returncode == 130, error
    assert error.splitlines()[-1].startswith("Interrupted; ")
    assert "Traceback" not in out + error
    if name != "run":
        assert error.count("\n") == 1
        assert left(tmp_path) in ([], ["out"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("only root can mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("free_kb", [0, 100, 1000])
@pytest.mark.parametrize("name", ["ingest", "prepare", "run"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(
    commands: dict[str, str], name: str, free_kb: int, small_disk: Path
) -> None:
    (small_disk / "ballast").write_bytes(bytes(3 * 1024 * 1024 - 1024 * free_kb))
    # A run needs 500 rounds to fill a megabyte: two are enough to write everything.
    process = popen(commands[name].replace("--rounds 500", "--rounds 2"), small_disk)
    _, error = process.communicate(timeout=120)
    held = set(left(small_disk)) - {"ballast"}
    if process.returncode == 0:
        assert held == {"out"}
        return
    assert "Traceback" not in error
    assert error.splitlines()[-1].startswith("error: ")
    assert "No space left on device" in error.splitlines()[-1]
    if name != "run":
        assert not held, error
