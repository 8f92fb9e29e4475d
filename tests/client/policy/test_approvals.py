from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from client.policy.approvals import LONGEST_DAYS, parse_end, parse_time, same_person, shown_end
from client.policy.policy import Policy, load_policy
from common.errors import PolicyError, UsageError
from common.flower.bundle_signature import sign_bundle
from tests.samples.approvals import approved, asking

REPOSITORY = Path(__file__).resolve().parents[3]
SHA256 = "ab" * 32
NAME = "us/app 1.0"
KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OTHER = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
AT = "2026-03-02T09:30:00+01:00"
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = {"second_approved_by": "B. Novak", "second_approved_at": AT}


def policy(folder: Path, rules: str = "", **keys: str) -> Policy:
    """A policy with one approved bundle, of March 2026 until the end of that year."""
    text = (REPOSITORY / "deploy" / "site" / "policy.toml").read_text()
    entry = approved(SHA256, **{"name": NAME, "approved_at": AT, "until": "2026-12-31", **keys})
    path = folder / "policy.toml"
    path.write_text(asking(f"{text}\n{entry}", rules))
    return load_policy(path)


def signed(key: Ed25519PrivateKey = KEY, sha256: str = SHA256, name: str = NAME) -> dict[str, str]:
    """The keys that record an author's signature."""
    made = sign_bundle(sha256, name, key, "")
    return {
        "author": made.author.fingerprint,
        "signature": b64encode(made.signature).decode(),
    }


def keys(*authors: Ed25519PrivateKey) -> str:
    texts = [sign_bundle(SHA256, NAME, key, "").author.text for key in authors]
    return f"author-keys = {texts}"


def test_a_bundle_runs_until_the_end_of_its_last_day_in_utc(tmp_path: Path) -> None:
    read = policy(tmp_path)
    assert read.refusal(SHA256, NOW) is None
    end = datetime(2027, 1, 1, tzinfo=UTC)
    assert read.refusal(SHA256, end - timedelta(microseconds=1)) is None
    for moment in (end, end.astimezone(timezone(timedelta(hours=-8))), end + timedelta(days=900)):
        reason = read.refusal(SHA256, moment)
        assert reason == f"the approval of {NAME} for 'a test' ended on 2026-12-31"


def test_a_time_with_its_offset_and_a_toml_date_are_taken_too(tmp_path: Path) -> None:
    read = policy(tmp_path, until="2026-03-02T14:00:00+01:00")
    assert read.refusal(SHA256, datetime(2026, 3, 2, 12, 59, 59, tzinfo=UTC)) is None
    assert "ended on 2026-03-02T13:00:00" in str(
        read.refusal(SHA256, datetime(2026, 3, 2, 13, 0, tzinfo=UTC))
    )
    path = tmp_path / "policy.toml"
    path.write_text(path.read_text().replace('"2026-03-02T14:00:00+01:00"', "2026-03-05"))
    assert load_policy(path).bundles[SHA256].last == "2026-03-05"


def test_another_bundle_is_not_approved(tmp_path: Path) -> None:
    assert "is not approved" in str(policy(tmp_path).refusal("cd" * 32, NOW))
    assert "is not approved" in str(policy(tmp_path).refusal("", NOW))


def test_an_approval_does_not_hold_before_it_was_given(tmp_path: Path) -> None:
    before = datetime(2026, 3, 2, 8, 29, 59, tzinfo=UTC)
    assert "only from 2026-03-02T08:30:00+00:00 on" in str(policy(tmp_path).refusal(SHA256, before))
    late = {**SECOND, "second_approved_at": "2026-03-02T12:00:01Z"}
    assert "only from" in str(policy(tmp_path, **late).refusal(SHA256, NOW))


def test_two_people_where_two_are_asked(tmp_path: Path) -> None:
    asked = "second-approver = true"
    assert "by A. Meyer alone" in str(policy(tmp_path, asked).refusal(SHA256, NOW))
    assert policy(tmp_path, asked, **SECOND).refusal(SHA256, NOW) is None


@pytest.mark.parametrize("name", ["A. Meyer", "a. meyer", "  A.  MEYER ", "\uff21. Meyer"])
def test_one_person_cannot_be_two(tmp_path: Path, name: str) -> None:
    with pytest.raises(PolicyError, match="is the same person as approved-by"):
        policy(tmp_path, **{**SECOND, "second_approved_by": name})


@pytest.mark.parametrize(
    ("rules", "fields", "reason"),
    [
        (keys(KEY), {}, "has no signature of its author"),
        (keys(KEY), signed(OTHER), "which is not among author-keys"),
        (keys(KEY), signed(sha256="cd" * 32), "does not hold for this bundle"),
        (keys(KEY), signed(name="us/app 2.0"), "does not hold for this bundle"),
        (keys(KEY), {**signed(OTHER), "author": signed()["author"]}, "does not hold"),
        (keys(KEY, OTHER), signed(OTHER), None),
        (keys(KEY), signed(), None),
        ("author-keys = []", signed(OTHER), None),
    ],
)
def test_the_authors_signature_where_it_is_asked(
    tmp_path: Path, rules: str, fields: dict[str, str], reason: str | None
) -> None:
    found = policy(tmp_path, rules, **fields).refusal(SHA256, NOW)
    assert found is None if reason is None else reason in str(found)


def test_an_approval_longer_than_the_policy_allows_does_not_count(tmp_path: Path) -> None:
    days = (datetime(2026, 12, 31, tzinfo=UTC) - datetime(2026, 3, 2, tzinfo=UTC)).days
    assert policy(tmp_path, f"longest-days = {days}").refusal(SHA256, NOW) is None
    reason = policy(tmp_path, f"longest-days = {days - 1}").refusal(SHA256, NOW)
    assert f"for {days} days, more than the {days - 1}" in str(reason)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("until", 'until is missing; add the line: until = "YYYY-MM-DD"'),
        ("study", "study is missing; add the line: study ="),
        ("approved-by", "approved-by is missing"),
        ("approved-at", "approved-at is missing"),
        ("second-approved-by", "second-approved-by is missing"),
        ("second-approved-at", "second-approved-at is missing"),
        ("author", "author is missing"),
        ("signature", "signature is missing"),
    ],
)
def test_an_entry_that_lacks_something_is_refused(tmp_path: Path, line: str, message: str) -> None:
    policy(tmp_path, **SECOND, **signed())
    path = tmp_path / "policy.toml"
    lines = path.read_text().splitlines()
    kept = [one for one in lines if not one.startswith(f"{line} = ")]
    assert len(kept) == len(lines) - 1
    path.write_text("\n".join(kept))
    with pytest.raises(PolicyError) as refused:
        load_policy(path)
    assert message in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "changed"),
    [
        ("", {"until": "soon"}),
        ("", {"until": "2026-12-31T10:00:00"}),
        ("", {"until": "9999-12-31"}),
        ("", {"until": "0001-01-01T00:00:00+14:00"}),
        ("", {"approved_at": "2026-03-02"}),
        ("", {"approved_at": "2026-03-02T09:30:00"}),
        ("", {"study": "  "}),
        ("", {"study": "x" * 201}),
        ("", {"approved_by": " "}),
        ("", {**signed(), "signature": "AAAA"}),
        ("", {**signed(), "signature": "no base64!"}),
        ("", {"reviewer": "C. Ito"}),
        ('second-approver = "yes"', {}),
        ("second-aprover = true", {}),
        ("longest-days = 0", {}),
        (f"longest-days = {LONGEST_DAYS + 1}", {}),
        ('author-keys = ["ssh-rsa AAAA"]', {}),
        ('author-keys = "all"', {}),
        (keys(KEY, KEY), {}),
        (keys(KEY, OTHER, KEY).replace("']", " again']"), {}),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, rules: str, changed: dict[str, str]) -> None:
    with pytest.raises(PolicyError, match=r"policy\.toml: (bundles\[0\]|approval)\."):
        policy(tmp_path, rules, **changed)


@given(
    moment=st.datetimes(  # naive bounds are what hypothesis takes
        datetime(2001, 1, 2),  # noqa: DTZ001
        datetime(2998, 12, 30),  # noqa: DTZ001
        timezones=st.timezones(),
    ),
)
def test_an_end_reads_back_as_it_is_shown(moment: datetime) -> None:
    end = parse_end(moment.isoformat(timespec="seconds"))
    assert parse_end(shown_end(end)) == end
    assert end == parse_time(moment.isoformat(timespec="seconds"))
    day = parse_end(moment.date().isoformat())
    assert shown_end(day) == moment.date().isoformat()


@given(text=st.text(max_size=40))
def test_no_text_breaks_the_reading_of_times(text: str) -> None:
    for parse in (parse_end, parse_time):
        with suppress(UsageError):
            assert parse(text).tzinfo is UTC


@given(name=st.text(min_size=1), spaces=st.text(" \t", max_size=3))
def test_a_name_is_the_same_person_in_any_case(name: str, spaces: str) -> None:
    assert same_person(name, f"{spaces}{name}{spaces}")
    assert not same_person(name, f"{name}x")
