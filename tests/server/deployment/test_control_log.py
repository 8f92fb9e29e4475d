from __future__ import annotations

from pathlib import Path

import pytest

from server.deployment.control_log import LOG_VARIABLE, ControlLog, read_log, started_by


def test_who_started_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "logs" / "control.jsonl"
    log = ControlLog(file)
    log.note("a.meyer", "start-run", 200, "7")
    log.note("b.novak", "start-run", 200, "77")
    log.note("b.novak", "stop-run", 200)
    assert started_by("7", file) == "a.meyer"
    assert started_by("8", file) == ""
    assert started_by("7") == ""
    monkeypatch.setenv(LOG_VARIABLE, str(file))
    assert started_by("77") == "b.novak"


def test_a_line_that_was_cut_off_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "control.jsonl"
    ControlLog(file).note("a.meyer", "list-runs", 200)
    with file.open("a") as lines:
        lines.write('{"time": "2026-')
    assert [entry["method"] for entry in read_log(file)] == ["list-runs"]
    assert list(read_log(tmp_path / "absent")) == []


def test_refusals_are_counted_where_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("server.deployment.control_log.time.monotonic", lambda: clock[0])
    file = tmp_path / "control.jsonl"
    log = ControlLog(file)
    for _ in range(100):
        log.note_refused("start-run", 401)
    clock[0] = 2.0
    log.note_refused("x\n{}", 401)
    first, second = read_log(file)
    assert "refused_before" not in first
    assert (second["method"], second["refused_before"]) == ("?", 99)
