from __future__ import annotations

from pathlib import Path

from server.runs.follow import RoundLines
from server.runs.run_folder import RunFolder


def entry(number: int, **more: object) -> dict[str, object]:
    return {
        "round": number,
        "sites": {"ccu": {"patients": 9}, "micu": {"refused": "its rank is 2"}},
        "validated_round": number - 1,
        "validation_wql": None,
        **more,
    }


def test_each_round_is_printed_once(tmp_path: Path) -> None:
    printed: list[str] = []
    lines = RoundLines(tmp_path / "run", 2, printed.append)
    lines.print_new()
    assert printed == [], "the folder need not be there yet"
    folder = RunFolder(tmp_path / "run")
    folder.append_round(entry(1, seconds=12.3))
    lines.print_new()
    lines.print_new()
    assert printed == ["round 1 of 2: 1 of 2 sites, 12 s, micu refused: its rank is 2"]
    folder.append_round(entry(2, validation_wql=0.5))
    folder.append_round(entry(3, validation_wql=0.4))
    lines.print_new()
    assert printed[1].startswith("round 2 of 2: 1 of 2 sites, WQL of round 1 0.5000")
    assert printed[2].startswith("last validation: 1 of 2 sites, WQL of round 2 0.4000")
