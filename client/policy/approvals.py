r"""Approvals in policy.toml: which app bundle may run, by whose word, for which study, until when.

    [approval]                             # may be left out, with each key; these are the defaults
    second-approver = false                # whether two people must have approved a bundle
    longest-days = 1830                    # an approval for longer than that does not count
    author-keys = []                       # e.g. ["ssh-ed25519 AAAA… the authors"]: then bundles
                                           # run only with a signature by one of these keys

    [[bundles]]                            # one for each, by `python -m client approve`
    sha256 = "9f2c…"
    name = "fedvitals/fedvitals 0.1.0"
    study = "Vital signs in sepsis, ethics 2026-017"
    until = "2026-12-31"                   # the end of that day, UTC; or a time with its offset
    approved-by = "A. Meyer"
    approved-at = "2026-03-02T09:30:00+01:00"
    second-approved-by = "B. Novak"        # these two may be left out, if [approval] agrees
    second-approved-at = "2026-03-02T11:00:00+01:00"
    author = "SHA256:…"                    # and so may these: the key's fingerprint
    signature = "…"                        # and its signature, `common.flower.bundle_signature`

Names are claims of whoever may write the file; that it is these people, the file's owner sees to.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from common.config.toml import TomlTable
from common.errors import UsageError
from common.flower.bundle_signature import AuthorKey, parse_author_key, parse_signature

LONGEST_DAYS = 5 * 366
"""No approval is for longer, whatever the policy says."""
MAX_TEXT = 200

Read = TypeVar("Read")

_KEYS = ("sha256", "name", "study", "until", "approved-by", "approved-at")
_SECOND = ("second-approved-by", "second-approved-at")
_SIGNED = ("author", "signature")
_YEARS = range(2000, 3000)
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Printable to Python, and shown as nothing: by them two equal names would differ."""
_WORD = re.compile(r"[^\W\d_]+")
_ALIKE = frozenset({"ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GREEK", "LATIN"})
"""Scripts with letters that look like another's; no name mixes them within a word."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Approval:
    """One person's word: who, and when in UTC."""

    by: str
    at: datetime


@dataclass(frozen=True)
class AuthorSignature:
    """Who signed a bundle: the fingerprint of the key, and the signature's 64 bytes."""

    author: str
    signature: bytes


@dataclass(frozen=True)
class Bundle:
    """An app bundle that was approved.

    Attributes:
        sha256: of its bytes.
        name: publisher, name and version.
        study: what it may run for.
        end: the first moment at which it may not run any more, UTC.
        approvals: the first person's, and the second's where there is one.
        signed: the author's signature; None where the approval came without.
    """

    sha256: str
    name: str
    study: str
    end: datetime
    approvals: tuple[Approval, ...]
    signed: AuthorSignature | None

    @property
    def last(self) -> str:
        """When it ends, for people: the last day, or the time where it ends within a day."""
        return shown_end(self.end)


@dataclass(frozen=True)
class ApprovalRules:
    """The section [approval] of policy.toml.

    Attributes:
        second_approver: whether two people have to approve.
        longest_days: how many days after its first approval a bundle may run.
        author_keys: one of these has to have signed the bundle; empty = none has to.
    """

    second_approver: bool
    longest_days: int
    author_keys: tuple[AuthorKey, ...]

    def refusal(self, bundle: Bundle | None, now: datetime) -> str | None:
        """Say why a bundle may not run.

        Args:
            bundle: its entry in the policy; None where there is none.
            now: the moment, with its offset.

        Returns:
            The reason, in words; None where it may run.
        """
        if bundle is None:
            return "the app bundle is not approved, or no longer"
        if now >= bundle.end:
            return f"the approval of {bundle.name} for {bundle.study!r} ended on {bundle.last}"
        if self.second_approver and len(bundle.approvals) < 2:
            return (
                f"{bundle.name} is approved by {bundle.approvals[0].by} alone, and the policy "
                "asks for a second approver"
            )
        latest = max(approval.at for approval in bundle.approvals)
        if now < latest:
            return f"{bundle.name} is approved only from {latest.isoformat()} on"
        return self.too_long(bundle.approvals[0].at, bundle.end) or self.unsigned(
            bundle.sha256, bundle.name, bundle.signed
        )

    def too_long(self, begin: datetime, end: datetime) -> str | None:
        """Say why an approval from one moment to another is too long; None where it is not."""
        # By days of the calendar, so that 365 of them reach the end of the same date next year.
        days = (_last_moment(end).date() - begin.astimezone(UTC).date()).days
        if days <= self.longest_days:
            return None
        return (
            f"the approval is for {days} days, more than the {self.longest_days} of "
            "approval.longest-days"
        )

    def unsigned(self, sha256: str, name: str, signed: AuthorSignature | None) -> str | None:
        """Say why a bundle is not signed as the policy asks; None where it is."""
        if not self.author_keys:
            return None
        if signed is None:
            return f"{name} has no signature of its author, which the policy asks for"
        for key in self.author_keys:
            if key.fingerprint == signed.author:
                if key.signed(signed.signature, sha256, name):
                    return None
                return f"the author's signature of {name} does not hold for this bundle"
        return f"{name} is signed by the key {signed.author}, which is not among author-keys"


def read_rules(table: TomlTable) -> ApprovalRules:
    """Read the section [approval]; what is left out has its default."""
    table.only(("second-approver", "longest-days", "author-keys"))
    longest = table.whole("longest-days", LONGEST_DAYS, least=1)
    if longest > LONGEST_DAYS:
        raise table.wrong("longest-days", f"must be at most {LONGEST_DAYS}, got {longest}")
    try:
        keys = tuple(parse_author_key(text) for text in table.texts("author-keys", ()))
    except UsageError as problem:
        raise table.wrong("author-keys", f"has what cannot be: {problem}") from None
    if len({key.raw for key in keys}) != len(keys):
        raise table.wrong("author-keys", "names one key twice")
    return ApprovalRules(table.flag("second-approver", False), longest, keys)


def read_bundles(tables: Sequence[TomlTable]) -> Mapping[str, Bundle]:
    """Read the entries [[bundles]], by SHA-256.

    Raises:
        PolicyError: a key is unknown, missing, or its value cannot be.
    """
    bundles: dict[str, Bundle] = {}
    for table in tables:
        bundle = _bundle(table)
        if bundle.sha256 in bundles:
            raise table.wrong("sha256", "stands there twice")
        bundles[bundle.sha256] = bundle
    return bundles


def parse_end(text: str) -> datetime:
    """Return the first moment, UTC, that is after an approval's end.

    Args:
        text: ISO 8601; a date means the end of that day in UTC, a time needs its offset.

    Raises:
        UsageError: it is neither.
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return parse_time(text)
    if day.year not in _YEARS:
        raise UsageError(f"must be a date from {_YEARS[0]} to {_YEARS[-1]}, got {text!r}")
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def parse_time(text: str) -> datetime:
    """Return a moment in UTC.

    Args:
        text: ISO 8601 with an offset.

    Raises:
        UsageError: it is something else.
    """
    with suppress(ValueError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and moment.year in _YEARS:
            return moment.astimezone(UTC)
    raise UsageError(
        f"must be a time in ISO 8601 with its offset, e.g. 2026-03-02T09:30:00+01:00, got {text!r}"
    )


def shown_end(end: datetime) -> str:
    """Return an end as people read it: its last day, or the moment where it is within a day."""
    if end.timetz().replace(tzinfo=None) == datetime.min.time():
        return _last_moment(end).date().isoformat()
    return end.isoformat(timespec="seconds")


def same_person(one: str, other: str) -> bool:
    """Return whether two names are one: case, spaces and punctuation make no difference."""
    return _folded(one) == _folded(other)


def check_person(text: str) -> str:
    """Return the name of who approves without the spaces around it.

    Raises:
        UsageError: as `check_text`, or a word of it has letters of several scripts, some of which
            look like those of another name.
    """
    name = check_text(text, "the name of who approves")
    for word in _WORD.findall(unicodedata.normalize("NFKC", name)):
        scripts = sorted({unicodedata.name(c, "?").split()[0] for c in word} & _ALIKE)
        if len(scripts) > 1:
            raise UsageError(
                f"must be written in one alphabet, got {word!a} with letters of "
                f"{' and '.join(script.title() for script in scripts)}"
            )
    return name


def check_text(text: str, what: str) -> str:
    """Return a name or a study without the spaces around it.

    Raises:
        UsageError: it is empty, too long, or cannot be shown in a line.
    """
    shown = text.isprintable() and not _UNSEEN.search(text)
    if not text.strip() or not shown or len(text) > MAX_TEXT:
        raise UsageError(
            f"must be {what}, printable and of at most {MAX_TEXT} characters, got {text[:40]!a}"
        )
    return text.strip()


def _bundle(table: TomlTable) -> Bundle:
    table.only((*_KEYS, *_SECOND, *_SIGNED))
    digest = table.text("sha256")
    if not _SHA256.fullmatch(digest):
        raise table.wrong("sha256", f"must be 64 of 0-9 a-f, got {digest!r}")
    if "study" not in table:
        raise table.wrong("study", 'is missing; add the line: study = "what it may run for"')
    if "until" not in table:
        raise table.wrong(
            "until", 'is missing; an approval ends: add the line: until = "YYYY-MM-DD"'
        )
    approvals = [_approval(table, "approved-by", "approved-at")]
    if any(key in table for key in _SECOND):
        approvals.append(_approval(table, *_SECOND))
        if same_person(approvals[0].by, approvals[1].by):
            raise table.wrong(
                _SECOND[0], f"is the same person as approved-by, {approvals[0].by!r}; delete it"
            )
    signed = None
    if any(key in table for key in _SIGNED):
        signed = AuthorSignature(table.text("author"), _read(table, "signature", parse_signature))
    study = _read(table, "study", lambda text: check_text(text, "what the bundle may run for"))
    end = _read(table, "until", parse_end)
    return Bundle(digest, table.text("name"), study, end, tuple(approvals), signed)


def _approval(table: TomlTable, by: str, at: str) -> Approval:
    return Approval(
        _read(table, by, check_person),
        _read(table, at, parse_time),
    )


def _read(table: TomlTable, key: str, parse: Callable[[str], Read]) -> Read:
    value = table.raw(key)
    # TOML has dates and times of its own, without quotes.
    text = value.isoformat() if isinstance(value, date) else table.text(key)
    try:
        return parse(text)
    except UsageError as problem:
        raise table.wrong(key, str(problem)) from None


def _folded(name: str) -> str:
    # Once more behind the folding, which can take a letter apart.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    # A combining mark is no \w, and stays: it is a part of its letter.
    kept = "".join(c if c.isalnum() or unicodedata.combining(c) else " " for c in folded)
    return " ".join(kept.split())


def _last_moment(end: datetime) -> datetime:
    return end - timedelta(microseconds=1)
