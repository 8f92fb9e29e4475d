from __future__ import annotations

import io
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.cli import app
from client.policy.app_bundle import read_bundle
from client.policy.policy import load_policy
from common.console import run
from common.flower.bundle_signature import public_key, sign_bundle, signature_path, write_signature
from tests.client.policy.bundle_files import make_bundle
from tests.samples.approvals import NOW, STUDY, UNTIL, approved, asking

REPOSITORY = Path(__file__).resolve().parents[3]
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
FIRST = ("--by", "A. Meyer", "--study", STUDY, "--until", UNTIL, "--yes")


class Desk:
    """An administrator's folder: a policy and a bundle."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.policy = folder / "policy.toml"
        self.policy.write_text((REPOSITORY / "deploy" / "site" / "policy.toml").read_text())
        self.bundle = make_bundle(folder, **{"client/app/client_app.py": "app = 1\n"})
        self.sha256 = read_bundle(self.bundle).sha256
        self.words = 0
        self._capsys = capsys

    def approve(self, *arguments: str, code: int = 0) -> str:
        """Call the command; return what it wrote to both outputs, spaces folded."""
        command = ["approve", str(self.bundle), "--policy", str(self.policy), *arguments]
        assert run(app, command) == code
        said = self._capsys.readouterr()
        assert said.err.count("\n") <= 1 + said.err.count("invalid input")
        self.words = len(said.out.split())
        return " ".join(f"{said.out} {said.err}".split())

    def listed(self) -> str:
        assert run(app, ["approve", "--list", "--policy", str(self.policy)]) == 0
        return " ".join(self._capsys.readouterr().out.split())

    def ask_for(self, line: str) -> None:
        self.policy.write_text(asking(self.policy.read_text(), line))

    @property
    def refusal(self) -> str | None:
        return load_policy(self.policy).refusal(self.sha256, datetime.now(UTC))


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


def test_it_shows_what_it_is_about_and_approves(desk: Desk) -> None:
    said = desk.approve(*FIRST)
    assert "client/app/client_app.py" not in said
    assert desk.words < 250, "a summary, not every file"
    for words in (
        "app: us/app 1.0",
        "files: 2, ",
        "--files lists them",
        "may: read the site table and train on it",
        "epsilon up to 8 a run and 10 over all runs",
        "changes: no other bundle has been approved here",
        f"SHA-256: {desk.sha256}",
        f"by A. Meyer, for the study: {STUDY}",
        f"until: {UNTIL}",
        "not signed by its author; the policy does not require it",
        "approved in ",
    ):
        assert words in said
    assert desk.refusal is None
    assert f"study: {STUDY} until: {UNTIL} it may run; nothing is written" in desk.approve()


def test_without_a_study_or_an_end_it_only_shows(desk: Desk) -> None:
    before = desk.policy.read_bytes()
    for given in ((), ("--study", STUDY), ("--until", UNTIL)):
        said = desk.approve("--yes", "--files", *given, code=2)
        assert "client/app/client_app.py" in said
        assert "an approval needs --study TEXT and --until YYYY-MM-DD" in said
    assert desk.policy.read_bytes() == before


def test_a_no_writes_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal(monkeypatch, "n\n")
    before = desk.policy.read_bytes()
    assert "not approved; nothing is written" in desk.approve(*FIRST[:-1], code=1)
    assert desk.policy.read_bytes() == before


def terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Let standard input be a terminal at which somebody types."""
    source = io.StringIO(typed)
    monkeypatch.setattr(source, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", source)


@pytest.mark.parametrize(("typed", "code"), [("\n\ny\n", 0), ("\nN\n", 1), ("cp a b\nyes\n", 0)])
def test_a_blank_line_is_no_answer(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
) -> None:
    terminal(monkeypatch, typed)
    said = desk.approve(*FIRST[:-1], code=code)
    assert said.count("Approve it in") == typed.count("\n")
    assert (desk.refusal is None) == (code == 0)


def test_without_a_terminal_the_approval_is_not_asked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    before = desk.policy.read_bytes()
    said = desk.approve(*FIRST[:-1], code=2)
    assert "standard input is none; read the summary and give --yes" in said
    assert desk.policy.read_bytes() == before


def test_the_changes_against_the_last_approved_bundle_are_shown(desk: Desk, tmp_path: Path) -> None:
    desk.approve(*FIRST)
    many = {f"client/n{number}.py": "" for number in range(9)}
    desk.bundle = make_bundle(tmp_path, **{"client/app/client_app.py": "app = 2\n", **many})
    said = desk.approve(*FIRST)
    assert f"changes: 1 changed, 9 added, 0 removed, against us/app 1.0 ({desk.sha256[:12]}" in said
    assert "~ client/app/client_app.py" in said
    assert "and 2 more; --files lists them" in said
    assert "+ client/n8.py" in desk.approve("--files")
    (tmp_path / "approved-files.json").write_text("[]")
    assert "changes: unknown; the files of us/app 1.0" in desk.approve()


def test_a_record_that_cannot_be_written_takes_no_approval_back(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "approved-files.json").mkdir()
    assert "the next approval will not show what changes" in desk.approve(*FIRST)
    assert desk.refusal is None


@pytest.mark.parametrize(
    ("until", "code", "message"),
    [
        ("2020-01-01", 2, "--until 2020-01-01 is past"),
        ("2600-01-01", 20, "approval.longest-days"),
        ("soon", 2, "must be a time in ISO 8601"),
    ],
)
def test_an_end_that_cannot_be(desk: Desk, until: str, code: int, message: str) -> None:
    assert message in desk.approve(*FIRST, "--until", until, code=code)


def test_two_people_approve(desk: Desk) -> None:
    desk.ask_for("second-approver = true")
    said = desk.approve(*FIRST)
    assert "it runs once another person has approved it: python -m client approve" in said
    assert "it may not run" in desk.approve(code=20)
    assert "alone" in desk.listed()
    assert "another person's" in desk.approve("--second", "--by", "a. meyer", "--yes", code=20)
    said = desk.approve("--second", "--by", "B. Novak", "--yes")
    assert f"approved by A. Meyer at {datetime.now(UTC):%Y}" in said
    assert "it runs once" not in said
    assert desk.refusal is None
    assert "A. Meyer and B. Novak" in desk.listed()


def test_the_second_person_changes_nothing_else(desk: Desk) -> None:
    desk.approve(*FIRST)
    said = desk.approve("--second", "--by", "B. Novak", "--until", UNTIL, code=2)
    assert "--second confirms the existing approval" in said


def test_an_approval_that_ended_is_renewed(desk: Desk) -> None:
    ended = (NOW - timedelta(days=2)).date().isoformat()
    entry = approved(desk.sha256, until=ended, study="Vital signs")
    desk.policy.write_text(f"{desk.policy.read_text()}\n{entry}")
    assert f"ended on {ended}; renew the approval with --renew" in desk.approve(code=20)
    said = desk.approve("--renew", "--by", "B. Novak", "--until", UNTIL, "--yes")
    assert f"by B. Novak, for the study: Vital signs until: {UNTIL}" in said
    assert desk.refusal is None


def test_the_signature_beside_the_bundle_is_taken(desk: Desk, tmp_path: Path) -> None:
    desk.ask_for(f'author-keys = ["{public_key(KEY, "").text} the authors"]')
    assert "has no signature of its author" in desk.approve(*FIRST, code=20)
    beside = signature_path(desk.bundle)
    write_signature(sign_bundle("cd" * 32, "us/app 1.0", KEY, ""), beside)
    assert "is for another bundle" in desk.approve(*FIRST, code=2)
    beside.write_text("{}")
    assert "is no signature file" in desk.approve(*FIRST, code=2)
    elsewhere = tmp_path / "mail.sig"
    write_signature(sign_bundle(desk.sha256, "us/app 1.0", KEY, "the authors"), elsewhere)
    said = desk.approve(*FIRST, "--signature", str(elsewhere))
    assert "signed by the authors, SHA256:" in said
    assert desk.refusal is None
    assert "author's signature: required, by the authors" in desk.listed()
    assert "no signature" not in desk.listed()


def test_a_signature_that_nobody_asked_for_is_shown_as_such(desk: Desk) -> None:
    write_signature(sign_bundle(desk.sha256, "us/app 1.0", KEY, ""), signature_path(desk.bundle))
    assert "; the policy lists no author keys" in desk.approve(*FIRST)


def test_the_list_says_what_is_approved_and_what_has_ended(desk: Desk) -> None:
    assert "second approver: not required author's signature: not required" in desk.listed()
    for number, (study, until) in enumerate((("one", UNTIL), ("two", "2026-04-01"))):
        old = {"approved_at": "2026-03-02T09:30:00+01:00"} if until != UNTIL else {}
        entry = approved(
            f"{number}" * 64, name=f"us/app [{number}]", study=study, until=until, **old
        )
        desk.policy.write_text(f"{desk.policy.read_text()}\n{entry}")
    said = desk.listed()
    for words in ("000000000000", "111111111111", "us/app", "[1]", "one", "two", UNTIL, "yes"):
        assert words in said
    assert said.count("ended") == 1


def test_a_bundle_or_the_list_has_to_be_asked_for(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["approve", "--policy", str(desk.policy)]) == 2
    assert "give the .fab file of the bundle, or --list" in capsys.readouterr().err


def test_remarks_do_not_push_the_summary_away(desk: Desk) -> None:
    odd = {f"payload{number:03}.so": b"\0" for number in range(300)}
    make_bundle(desk.bundle.parent, **{"client/app/client_app.py": "app = 1\n"}, **odd)
    said = desk.approve(code=2)
    assert said.count("look at: ") == 9
    assert "look at: 292 more; --files lists them" in said
    assert desk.approve("--files", code=2).count("look at: ") == 300
