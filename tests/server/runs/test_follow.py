from __future__ import annotations

from pathlib import Path

import pytest

import server.runs.follow
from server.runs.follow import STARTS, RoundLines, Start
from server.runs.run_folder import RunFolder, read_rounds


def entry(number: int, **more: object) -> dict[str, object]:
    return {
        "round": number,
        "sites": {"ccu": {"patients": 9}, "micu": {"refused": "its rank is 2"}},
        "validated_round": number - 1,
        "validation_wql": None,
        **more,
    }


def write_starts(folder: RunFolder, *starts: Start, rounds: int = 2) -> None:
    folder.write_config(
        {"settings": {"rounds": rounds}, STARTS: [start._asdict() for start in starts]}
    )


def test_each_round_is_printed_once(tmp_path: Path) -> None:
    printed: list[str] = []
    lines = RoundLines(tmp_path / "run", printed.append)
    lines.print_new()
    assert printed == [], "the folder need not be there yet"
    folder = RunFolder(tmp_path / "run")
    write_starts(folder, Start("7", 0, 0))
    folder.append_round(entry(1, seconds=12.3))
    lines.print_new()
    lines.print_new()
    assert printed == ["round 1 of 2: 1 of 2 sites, 12 s, micu refused: its rank is 2"]
    folder.append_round(entry(2, validation_wql=0.5))
    folder.append_round(entry(3, validation_wql=0.4))
    assert len(lines.print_new()) == 3
    assert printed[1].startswith(
        "round 2 of 2: 1 of 2 sites, validation WQL of round 1's adapter 0.5000"
    )
    assert printed[2].startswith("last validation: 1 of 2 sites, WQL of round 2's adapter 0.4000")


def test_rounds_of_another_run_are_not_shown(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_starts(folder, Start("7", 0, 0))
    folder.append_round(entry(1))
    printed: list[str] = []
    for lines in (RoundLines(tmp_path, printed.append), RoundLines(tmp_path, printed.append, "8")):
        assert lines.print_new() == []
        assert not lines.begun
    assert printed == []


def test_a_resumed_run_shows_its_new_rounds_of_its_own_number(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_starts(folder, Start("7", 0, 0), rounds=3)
    folder.append_round(entry(1))
    folder.append_round(entry(2, failed="below the quorum"))
    printed: list[str] = []
    next_start = RoundLines(tmp_path, printed.append)
    attached: list[str] = []
    write_starts(folder, Start("7", 0, 0), Start("8", 1, 2), rounds=3)
    folder.append_round(entry(2))
    next_start.print_new()
    micu = "micu refused: its rank is 2"
    new = ["resuming after round 1", f"round 2 of 3: 1 of 2 sites, {micu}"]
    assert printed == new
    RoundLines(tmp_path, attached.append, "8").print_new()
    assert attached == new
    first: list[str] = []
    RoundLines(tmp_path, first.append, "7").print_new()
    assert first == [
        f"round 1 of 3: 1 of 2 sites, {micu}",
        f"round 2 of 3: 1 of 2 sites, failed: below the quorum, {micu}",
    ]


def test_a_folder_of_an_older_release_has_no_starts(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_config({"settings": {"rounds": 2}})
    folder.append_round(entry(1))
    printed: list[str] = []
    RoundLines(tmp_path, printed.append).print_new()
    assert printed == []


def test_the_files_are_read_when_they_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    lines = RoundLines(tmp_path, lambda _line: None)
    write_starts(folder, Start("7", 0, 0))
    folder.append_round(entry(1))
    assert len(lines.print_new()) == 1
    reads: list[Path] = []

    def counted(path: Path) -> list[dict[str, object]]:
        reads.append(path)
        return read_rounds(path)

    monkeypatch.setattr(server.runs.follow, "read_rounds", counted)
    for _ in range(185):  # before each site's work
        assert len(lines.print_new()) == 1
    assert not reads
    folder.append_round(entry(2))
    assert len(lines.print_new()) == 2
    assert len(reads) == 1
