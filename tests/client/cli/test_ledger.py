from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.cli import app
from client.privacy.accountant import Steps, replace_one, spent
from client.privacy.budget_ledger import Ledger, Plan
from common.console import run
from common.errors import PrivacyError, UsageError
from common.files.paths import home

PLAN = Plan(sample_rate=0.1, noise_multiplier=2.0, steps=30, delta=1e-5, clip_norm=1.0)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path)
    for name, site, table in [
        ("aaaa", "ccu", "1111"),
        ("bbbb", "ccu", "2222"),
        ("cccc", "micu", "3333"),
    ]:
        ledger.begin(name, site, table, PLAN)
        for number in (1, 2):
            reservation = ledger.reserve(name, site, number, 10, "x")
            assert reservation is not None
            if (name, number) != ("bbbb", 2):
                ledger.keep(reservation, b"answer")
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(app, ["ledger", *arguments]) == 0
    return capsys.readouterr().out


def test_it_shows_runs_what_crashed_totals_and_what_is_left(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(capsys, "--state", str(state), "--site", "ccu", "--limit", "8")
    one = spent([Steps(0.1, 2.0, 20)], 1e-5).prv
    both = spent([Steps(0.1, 2.0, 40)], 1e-5).prv
    rows = {line.split()[1]: line.split() for line in text.splitlines() if "20 / 30" in line}
    assert rows.keys() == {"aaaa", "bbbb"}
    assert rows["aaaa"][2:] == ["1111", "20", "/", "30", "2.000", "0.1", f"{one:.2f}"]
    assert rows["bbbb"][2:] == ["2222", "20", "/", "30", "10", "2.000", "0.1", f"{one:.2f}"]
    assert f"All runs and tables together: epsilon {both:.2f} (PRV)" in text
    assert f"Left of the limit of 8: {8 - both:.2f}." in text
    replaced = replace_one([Steps(0.1, 2.0, 40)], 1e-5).prv
    assert f"replacing one patient's data by others: epsilon {replaced:.2f} (PRV)" in text
    assert "micu" not in text


def test_without_a_site_all_are_shown(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--state", str(state))
    assert "Spent at site ccu" in text
    assert "Spent at site micu" in text
    assert "Left" not in text


def test_json_holds_what_the_ledger_holds(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(shown(capsys, "--state", str(state), "--json", "--limit", "1"))
    assert said["sites"].keys() == {"ccu", "micu"}
    ccu = said["sites"]["ccu"]
    assert [run["reserved"] for run in ccu["runs"]] == [20, 20]
    assert [run["unanswered"] for run in ccu["runs"]] == [0, 10]
    assert ccu["runs"][0]["plan"]["clip_norm"] == 1.0
    assert ccu["total"]["prv"] == spent([Steps(0.1, 2.0, 40)], 1e-5).prv
    assert ccu["replace-one"]["prv"] == replace_one([Steps(0.1, 2.0, 40)], 1e-5).prv
    assert ccu["left"] == 0.0


def test_it_looks_in_the_home_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    Ledger(home() / "site").begin("dddd", "ccu", "4444", PLAN)
    assert "0 / 30" in shown(capsys)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--site", "icu"], UsageError.exit_code, "no run of site 'icu'"),
        (["--delta", "0"], UsageError.exit_code, "--delta must be between"),
        (["--limit", "-1"], UsageError.exit_code, "--limit above 0"),
    ],
)
def test_a_wrong_argument_ends_in_one_line(
    state: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    assert run(app, ["ledger", "--state", str(state), *arguments]) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_no_ledger_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["ledger", "--state", str(tmp_path)]) == PrivacyError.exit_code
    assert "there is no ledger" in capsys.readouterr().err
