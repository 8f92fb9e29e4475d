from __future__ import annotations

from pathlib import Path

import pytest

from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import Anchor, read_entries, verify_log
from common.errors import AuditError


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    audit = AuditLog(path)
    for number in range(4):
        audit.append({"decision": "sent", "round": number})
    return path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines(keepends=True)


def test_a_whole_log_is_read_back_and_goes_on(log: Path) -> None:
    before = verify_log(log)
    assert before.lines == 4
    assert [entry["round"] for entry in read_entries(log)] == [0, 1, 2, 3]
    AuditLog(log).append({"decision": "refused", "round": 4})
    assert verify_log(log, before).lines == 5


def test_it_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    AuditLog(tmp_path / "site" / "audit.jsonl").append({"decision": "sent"})
    held = [tmp_path / "site", *(tmp_path / "site").iterdir()]
    assert len(held) > 2
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in held}
    assert modes == {(True, 0o700), (False, 0o600)}


@pytest.mark.parametrize("change", ["changed", "removed", "moved", "cut off", "added"])
def test_what_was_done_to_a_log_is_found(log: Path, change: str) -> None:
    kept = lines(log)
    altered = {
        "changed": [kept[0], kept[1].replace('"round":1', '"round":7'), *kept[2:]],
        "removed": [kept[0], *kept[2:]],
        "moved": [kept[0], kept[2], kept[1], kept[3]],
        "cut off": kept[:3],
        "added": [*kept, kept[3]],
    }[change]
    assert altered != kept
    log.write_text("".join(altered))
    with pytest.raises(AuditError):
        verify_log(log)


def test_a_chain_written_anew_is_found_by_an_anchor_kept_elsewhere(
    log: Path, tmp_path: Path
) -> None:
    kept = verify_log(log)
    other = tmp_path / "other.jsonl"
    audit = AuditLog(other)
    for number in range(4):
        audit.append({"decision": "sent", "round": number + 10})
    assert verify_log(other).lines == kept.lines
    with pytest.raises(AuditError):
        verify_log(other, kept)
    with pytest.raises(AuditError):
        verify_log(log, Anchor(5, kept.head))
