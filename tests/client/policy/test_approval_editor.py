from __future__ import annotations

import datetime as dt
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client.policy.app_bundle import BundleContents, read_bundle
from client.policy.approval_editor import Grant, approve_bundle, approve_second, renew_bundle
from client.policy.policy import load_policy
from common.errors import PolicyError, UsageError
from common.flower.bundle_signature import sign_bundle
from tests.client.policy.bundle_files import make_bundle
from tests.samples.approvals import asking

REPOSITORY = Path(__file__).resolve().parents[3]
NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
GRANT = Grant("A. Meyer", "Vital signs, ethics 17", "2026-12-31")
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text((REPOSITORY / "deploy" / "site" / "policy.toml").read_text())
    path.chmod(0o640)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> BundleContents:
    return read_bundle(make_bundle(tmp_path, **{"app.py": "x = 1"}))


def signed(bundle: BundleContents, key: Ed25519PrivateKey = KEY) -> Grant:
    return replace(GRANT, signature=sign_bundle(bundle.sha256, bundle.name, key, "us"))


def ask_for(policy: Path, line: str) -> None:
    policy.write_text(asking(policy.read_text(), line))


def ask_for_signature(policy: Path, bundle: BundleContents, key: Ed25519PrivateKey = KEY) -> None:
    signature = signed(bundle, key).signature
    assert signature is not None
    ask_for(policy, f'author-keys = ["{signature.author.text}"]')


def test_an_approval_stands_in_the_policy_and_changes_nothing_else(
    policy: Path, bundle: BundleContents
) -> None:
    before = policy.read_bytes()
    approve_bundle(policy, bundle, GRANT, NOW)
    assert policy.read_bytes().startswith(before)
    read = load_policy(policy)
    known = read.bundles[bundle.sha256]
    assert (known.name, known.study, known.last) == ("us/app 1.0", GRANT.study, "2026-12-31")
    assert [(one.by, one.at) for one in known.approvals] == [("A. Meyer", NOW)]
    assert read.refusal(bundle.sha256, NOW) is None
    assert policy.stat().st_mode & 0o777 == 0o640
    with pytest.raises(PolicyError, match=r"has the bundle .* already; .* --renew"):
        approve_bundle(policy, bundle, GRANT, NOW)
    assert policy.read_text().count(bundle.sha256) == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"by": ""}, "the approval's name must be the name of who approves"),
        ({"by": "two\nlines"}, "the approval's name must be"),
        ({"study": "  "}, "the approval's study must be what the bundle may run for"),
        ({"until": "2026-03-01"}, "--until 2026-03-01 is past"),
        ({"until": "2026-03-02T10:30:00+01:00"}, "is past"),
        ({"until": "2031-06-01"}, "more than the 1830 of approval.longest-days"),
        ({"until": "in a year"}, "--until must be a time in ISO 8601"),
    ],
)
def test_what_cannot_be_granted_is_not_written(
    policy: Path, bundle: BundleContents, changed: dict[str, Any], message: str
) -> None:
    before = policy.read_bytes()
    with pytest.raises((UsageError, PolicyError), match=message):
        approve_bundle(policy, bundle, replace(GRANT, **changed), NOW)
    assert policy.read_bytes() == before


def test_the_last_day_may_be_today(policy: Path, bundle: BundleContents) -> None:
    approve_bundle(policy, bundle, replace(GRANT, until="2026-03-02"), NOW)
    assert load_policy(policy).refusal(bundle.sha256, NOW) is None


def test_one_changed_character_is_another_bundle(
    tmp_path: Path, policy: Path, bundle: BundleContents
) -> None:
    approve_bundle(policy, bundle, GRANT, NOW)
    other = read_bundle(make_bundle(tmp_path, **{"app.py": "x = 2"}))
    assert "is not approved" in str(load_policy(policy).refusal(other.sha256, NOW))


def test_a_second_person_agrees(policy: Path, bundle: BundleContents, tmp_path: Path) -> None:
    ask_for(policy, "second-approver = true")
    approve_bundle(policy, bundle, GRANT, NOW)
    other = read_bundle(make_bundle(tmp_path, **{"app.py": "x = 2"}))
    approve_bundle(policy, other, GRANT, NOW)
    once = policy.read_text()
    for by in ("A. Meyer", " a. meyer "):
        with pytest.raises(PolicyError, match="another person's"):
            approve_second(policy, bundle, by, NOW)
    assert "alone" in str(load_policy(policy).refusal(bundle.sha256, NOW))
    approve_second(policy, bundle, "B. Novak", NOW)
    read = load_policy(policy)
    assert read.refusal(bundle.sha256, NOW) is None
    assert "alone" in str(read.refusal(other.sha256, NOW))
    lines = policy.read_text().splitlines()
    added = [line for line in lines if line.startswith("second-approved")]
    assert [line for line in lines if line not in added] == once.splitlines()
    with pytest.raises(PolicyError, match="has two approvals already"):
        approve_second(policy, bundle, "C. Ito", NOW)


def test_a_second_person_needs_an_approval_that_holds(policy: Path, bundle: BundleContents) -> None:
    with pytest.raises(PolicyError, match="has no approval of the bundle"):
        approve_second(policy, bundle, "B. Novak", NOW)
    approve_bundle(policy, bundle, GRANT, NOW)
    with pytest.raises(PolicyError, match="ended on 2026-12-31; give --renew"):
        approve_second(policy, bundle, "B. Novak", NOW + 400 * DAY)


def test_a_renewed_approval_needs_its_second_person_anew(
    policy: Path, bundle: BundleContents
) -> None:
    ask_for(policy, "second-approver = true")
    approve_bundle(policy, bundle, GRANT, NOW)
    approve_second(policy, bundle, "B. Novak", NOW)
    text = policy.read_text().replace('"2026-12-31"', '"2026-12-31"  # till the board meets')
    policy.write_text(text)
    later = NOW + 400 * DAY
    assert "ended" in str(load_policy(policy).refusal(bundle.sha256, later))
    renew_bundle(policy, bundle, replace(GRANT, until="2027-12-31", by="C. Ito"), later)
    assert 'until = "2027-12-31"  # till the board meets' in policy.read_text()
    assert "by C. Ito alone" in str(load_policy(policy).refusal(bundle.sha256, later))
    approve_second(policy, bundle, "A. Meyer", later)
    assert load_policy(policy).refusal(bundle.sha256, later) is None
    assert policy.read_text().count(bundle.sha256) == 1


def test_an_authors_signature_is_recorded_and_kept(policy: Path, bundle: BundleContents) -> None:
    ask_for_signature(policy, bundle)
    with pytest.raises(PolicyError, match=r"has no signature .*; give its \.sig file"):
        approve_bundle(policy, bundle, GRANT, NOW)
    approve_bundle(policy, bundle, signed(bundle), NOW)
    assert load_policy(policy).refusal(bundle.sha256, NOW) is None
    renew_bundle(policy, bundle, replace(GRANT, until="2027-01-31"), NOW)
    assert load_policy(policy).refusal(bundle.sha256, NOW) is None


def test_another_authors_signature_is_refused(policy: Path, bundle: BundleContents) -> None:
    ask_for_signature(policy, bundle)
    other = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
    with pytest.raises(PolicyError, match="not among author-keys"):
        approve_bundle(policy, bundle, signed(bundle, other), NOW)


def test_a_signature_that_is_not_asked_for_still_has_to_hold(
    tmp_path: Path, policy: Path, bundle: BundleContents
) -> None:
    other = read_bundle(make_bundle(tmp_path, **{"app.py": "x = 2"}))
    with pytest.raises(UsageError, match="for another bundle"):
        approve_bundle(policy, other, signed(bundle), NOW)
    approve_bundle(policy, bundle, signed(bundle), NOW)
    assert load_policy(policy).bundles[bundle.sha256].signed is not None
    ask_for_signature(policy, bundle)
    assert load_policy(policy).refusal(bundle.sha256, NOW) is None


def test_keys_that_came_later_ask_for_a_signature_at_renewal(
    policy: Path, bundle: BundleContents
) -> None:
    approve_bundle(policy, bundle, GRANT, NOW)
    ask_for_signature(policy, bundle)
    assert "no signature" in str(load_policy(policy).refusal(bundle.sha256, NOW))
    with pytest.raises(PolicyError, match="has no signature"):
        renew_bundle(policy, bundle, GRANT, NOW)
    renew_bundle(policy, bundle, signed(bundle), NOW)
    assert load_policy(policy).refusal(bundle.sha256, NOW) is None


def test_an_unusual_layout_is_left_to_people(policy: Path, bundle: BundleContents) -> None:
    approve_bundle(policy, bundle, GRANT, NOW)
    text = policy.read_text()
    policy.write_text(text.replace("until = ", '"until" = '))
    before = policy.read_bytes()
    with pytest.raises(PolicyError, match=r'by hand: study = .*; until = "2027-01-31"'):
        renew_bundle(policy, bundle, replace(GRANT, until="2027-01-31"), NOW)
    assert policy.read_bytes() == before
    assert [path.name for path in policy.parent.iterdir() if "partial" in path.name] == []
