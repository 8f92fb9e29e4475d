"""A bundle runs only with an approval in force, by as many people as the policy requires."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Message
from flwr.common.constant import ErrorCode

import client.egress.gate as gate_module
from client.cli import app
from client.policy.app_bundle import read_bundle
from client.policy.policy import load_policy
from common.console import run
from common.flower.bundle_signature import sign_bundle, signature_path, write_signature
from tests.client.egress.gated_site import BUNDLE, GatedSite, Make
from tests.client.policy.bundle_files import make_bundle
from tests.samples.approvals import STUDY, UNTIL, approved, asking

REPOSITORY = Path(__file__).resolve().parents[2]
AUTHOR = Ed25519PrivateKey.from_private_bytes(b"a" * 32)
STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
GRANTED = ("--by", "A. Meyer", "--study", STUDY, "--until", UNTIL, "--yes")


class Clock(datetime):
    """The gate's clock, which tests can set forward."""

    ahead = timedelta(0)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> type[Clock]:
    monkeypatch.setattr(gate_module, "datetime", Clock)
    monkeypatch.setattr(Clock, "ahead", timedelta(0))
    return Clock


@pytest.fixture
def site(make: Make) -> GatedSite:
    return make()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text((REPOSITORY / "deploy" / "site" / "policy.toml").read_text())
    return path


def ask_for(policy: Path, line: str) -> None:
    policy.write_text(asking(policy.read_text(), line))


def ask_for_author(policy: Path) -> None:
    key = sign_bundle(BUNDLE, "", AUTHOR, "").author
    ask_for(policy, f'author-keys = ["{key.text} the authors"]')


def approve(policy: Path, bundle: Path, *arguments: str) -> int:
    return run(app, ["approve", str(bundle), "--policy", str(policy), *arguments])


def may_run(policy: Path, bundle: Path) -> bool:
    return load_policy(policy).refusal(read_bundle(bundle).sha256, datetime.now(UTC)) is None


def refused(site: GatedSite, message: Message | None) -> str:
    """Assert that an error was sent instead of a reply; return the audit log's detail."""
    assert message is not None
    assert message.has_error()
    assert (site.last["decision"], site.last["reason"]) == ("refused", "bundle")
    return str(site.last["detail"])


def test_an_expired_app_is_not_started(site: GatedSite, clock: type[Clock]) -> None:
    """A coordinator runs an app after its study has ended.

    Before: an approval had no end, and the app ran for as long as the site was connected.
    """
    assert site.admitted(site.ask("train")) is None
    assert site.gate.approves(BUNDLE)
    clock.ahead = timedelta(days=302)
    answer = site.admitted(site.ask("train", 2))
    assert "ended on" in refused(site, answer)
    assert answer is not None
    assert answer.error.code == ErrorCode.INVALID_FAB
    assert not site.gate.approves(BUNDLE)


def test_an_approval_that_ends_while_the_app_trains_keeps_its_answer(
    site: GatedSite, clock: type[Clock]
) -> None:
    """A round begins before the end of the approval and is answered after it.

    Before: an approval had no end, and 100 % of such answers left.
    """
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    clock.ahead = timedelta(days=302)
    sent = site.sent(message, answer)
    assert "ended on" in refused(site, sent)
    assert sent is not None
    assert not sent.has_content()


def test_the_same_answer_leaves_while_the_approval_holds(
    site: GatedSite, clock: type[Clock]
) -> None:
    """Control: only the approval's end refuses the reply in the test before.

    Before: as now.
    """
    message = site.ask("train")
    assert site.admitted(message) is None
    assert not site.passed(message, site.answer(message)).has_error()


@pytest.mark.parametrize(
    "name", ["A. Meyer", "a. MEYER", "  A.   Meyer  ", "\uff21. Meyer", "A.Meyer", "A Meyer,"]
)
def test_one_person_does_not_approve_twice(
    policy: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One administrator as both approvers, written in several ways.

    Before: one approval was enough, and no second one could be asked for.
    """
    ask_for(policy, "second-approver = true")
    bundle = make_bundle(tmp_path)
    assert approve(policy, bundle, *GRANTED) == 0
    assert not may_run(policy, bundle)
    assert approve(policy, bundle, "--second", "--by", name, "--yes") == 20
    assert "another person's" in capsys.readouterr().err
    assert not may_run(policy, bundle)
    assert approve(policy, bundle, "--second", "--by", "B. Novak", "--yes") == 0
    assert may_run(policy, bundle)


@pytest.mark.parametrize(
    "name",
    ["A. Meyer\ufe0f", "A. Me\u034fyer", "\u3164A. Meyer", "A. Meyer\u2800", "A. M\u0435yer"],
)
def test_no_second_approver_looks_like_the_first(
    policy: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is shown as the first one's and is another text.

    Before: a variation selector, a filler or a letter of another alphabet made another person.
    """
    ask_for(policy, "second-approver = true")
    bundle = make_bundle(tmp_path)
    assert approve(policy, bundle, *GRANTED) == 0
    assert approve(policy, bundle, "--second", "--by", name, "--yes") == 2
    assert "the approval's name must be" in capsys.readouterr().err
    assert not may_run(policy, bundle)


def test_an_app_of_one_approver_is_not_started(site: GatedSite) -> None:
    """A bundle that only one of two people has approved.

    Before: it ran.
    """
    ask_for(site.folder / "policy.toml", "second-approver = true")
    assert "by A. Meyer alone" in refused(site, site.admitted(site.ask("train")))


def test_an_unsigned_app_is_not_started(site: GatedSite) -> None:
    """A bundle that the site approved by its digest, without its author's signature.

    Before: it ran, and no signature could be asked for.
    """
    ask_for_author(site.folder / "policy.toml")
    assert "has no signature" in refused(site, site.admitted(site.ask("train")))


@pytest.mark.parametrize(
    ("key", "signed", "name", "words"),
    [
        (AUTHOR, "cd" * 32, "fedvitals", "does not hold for this bundle"),
        (AUTHOR, BUNDLE, "fedvitals 0.0.9", "does not hold for this bundle"),
        (STRANGER, BUNDLE, "fedvitals", "not among author-keys"),
    ],
)
def test_a_signature_of_something_else_starts_no_app(
    site: GatedSite, key: Ed25519PrivateKey, signed: str, name: str, words: str
) -> None:
    """Another bundle's signature, another release's, a stranger's: pasted into the policy by hand.

    Before: it ran, and no signature could be asked for.
    """
    made = sign_bundle(signed, name, key, "")
    fields = {
        "author": made.author.fingerprint,
        "signature": b64encode(made.signature).decode(),
    }
    site.change_policy(approved(BUNDLE), approved(BUNDLE, **fields))
    ask_for_author(site.folder / "policy.toml")
    assert words in refused(site, site.admitted(site.ask("train")))


def test_a_stranger_does_not_sign_under_the_authors_fingerprint(site: GatedSite) -> None:
    """A stranger's signature that is stated to be the author's.

    Before: it ran, and no signature could be asked for.
    """
    made = sign_bundle(BUNDLE, "fedvitals", STRANGER, "")
    fields = {
        "author": sign_bundle(BUNDLE, "fedvitals", AUTHOR, "").author.fingerprint,
        "signature": b64encode(made.signature).decode(),
    }
    site.change_policy(approved(BUNDLE), approved(BUNDLE, **fields))
    ask_for_author(site.folder / "policy.toml")
    assert "does not hold" in refused(site, site.admitted(site.ask("train")))


def test_a_bundle_is_not_approved_with_the_signature_of_another(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A coordinator that sends a changed bundle with the signature of the published one.

    Before: the digest that the coordinator read out was all that the site could compare with.
    """
    ask_for_author(policy)
    bundle = make_bundle(tmp_path, **{"client/app/client_app.py": "app = 1\n"})
    contents = read_bundle(bundle)
    write_signature(sign_bundle(contents.sha256, contents.name, AUTHOR, ""), signature_path(bundle))
    make_bundle(tmp_path, **{"client/app/client_app.py": "app = 2\n"})
    before = policy.read_bytes()
    assert approve(policy, bundle, *GRANTED) == 2
    assert "the signature is for another bundle" in capsys.readouterr().err
    assert policy.read_bytes() == before
    make_bundle(tmp_path, **{"client/app/client_app.py": "app = 1\n"})
    assert approve(policy, bundle, *GRANTED) == 0
    assert may_run(policy, bundle)


def test_an_approval_without_an_end_is_none(site: GatedSite) -> None:
    """An entry as it was written until now, with neither study nor end.

    Before: it let the bundle run without an end.
    """
    site.change_policy(f'until = "{UNTIL}"\n', "")
    message = site.admitted(site.ask("train"))
    assert message is not None
    assert message.has_error()
    assert site.last["reason"] == "policy"
