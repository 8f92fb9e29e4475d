from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from client.policy.policy import load_policy
from client.preflight.check_result import CheckResult
from client.preflight.site import check_approvals
from tests.approval_samples import NOW, UNTIL, approved

REPOSITORY = Path(__file__).resolve().parents[3]
END = datetime.fromisoformat(f"{UNTIL}T00:00:00+00:00") + timedelta(days=1)


def found(folder: Path, entries: str, now: datetime = NOW) -> CheckResult:
    path = folder / "policy.toml"
    path.write_text(f"{(REPOSITORY / 'deploy/site/policy.toml').read_text()}\n{entries}")
    return check_approvals(path, load_policy(path), now)


def test_a_policy_that_lets_nothing_run(tmp_path: Path) -> None:
    finding = found(tmp_path, "")
    assert finding.level == "WARN"
    assert "lets no app bundle run: it has no approval" in finding.what
    ended = found(tmp_path, approved("ab" * 32), END)
    assert ended.level == "WARN"
    assert f"ended on {UNTIL}" in ended.what


@pytest.mark.parametrize(("days", "level"), [(15, "OK"), (14, "OK"), (13, "WARN")])
def test_an_approval_that_soon_ends(tmp_path: Path, days: int, level: str) -> None:
    later = approved("cd" * 32, name="another", until=(END + timedelta(days=9)).isoformat())
    finding = found(tmp_path, approved("ab" * 32) + later, END - timedelta(days=days))
    assert finding.level == level
    assert f"2 app bundles may run, fedvitals until {UNTIL}" in finding.what
    assert ("--renew" in finding.remedy) == (level == "WARN")
