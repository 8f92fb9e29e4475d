r"""Approvals in policy.toml: the app bundles that may run, who approved them, for which study.

    [approval]                             # may be left out, with each key; these are the defaults
    second-approver = false                # true: two people must approve a bundle
    longest-days = 1830                    # longest approval that counts
    author-keys = []                       # as "ssh-ed25519 AAAA… the authors"; if not empty, a
                                           # bundle needs a signature by one of these keys

    [[bundles]]                            # one each, written by `python -m client approve`
    sha256 = "9f2c…"
    name = "fedvitals/fedvitals 0.1.0"
    study = "Vital signs in sepsis, ethics 2026-017"
    until = "2026-12-31"                   # the end of that day, UTC; or a time with its offset
    approved-by = "A. Meyer"
    approved-at = "2026-03-02T09:30:00+01:00"
    second-approved-by = "B. Novak"        # optional unless [approval] requires them
    second-approved-at = "2026-03-02T11:00:00+01:00"
    author = "SHA256:…"                    # optional likewise: the key's fingerprint
    signature = "…"                        # and its signature, `common.flower.bundle_signature`

Names are claims of whoever may write the file; the file's owner checks who they are.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PlainValidator, Strict, model_validator
from pydantic_core import PydanticKnownError

from common.config.field_types import Parsed, Sha256, invalid
from common.config.strict_model import StrictModel
from common.errors import UsageError
from common.flower.bundle_signature import AuthorKey, parse_author_key, parse_signature

LONGEST_DAYS = 5 * 366
"""No approval is for longer, whatever the policy allows."""

_MAX_TEXT = 200
_YEARS = range(2000, 3000)
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Printable to Python, and invisible: by them two names that look equal would differ."""
_WORD = re.compile(r"[^\W\d_]+")
_ALIKE = frozenset({"ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GREEK", "LATIN"})
"""Scripts with letters that look like another's; no name mixes them within a word."""


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
        raise UsageError(f"must be a date from {_YEARS[0]} to {_YEARS[-1]}, got {text!r:.100}")
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
        f"must be a time in ISO 8601 with its offset, e.g. 2026-03-02T09:30:00+01:00, "
        f"got {text!r:.100}"
    )


def shown_end(end: datetime) -> str:
    """Return an end for people: its last day, or the time where it is within a day."""
    if end.timetz().replace(tzinfo=None) == datetime.min.time():
        return _last_moment(end).date().isoformat()
    return end.isoformat(timespec="seconds")


def same_person(one: str, other: str) -> bool:
    """Return true if two names are equal but for case, spaces and punctuation."""
    return _folded(one) == _folded(other)


def check_person(text: str) -> str:
    """Return an approver's name without the spaces around it.

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
    if not text.strip() or not shown or len(text) > _MAX_TEXT:
        raise UsageError(
            f"must be {what}, printable and of at most {_MAX_TEXT} characters, got {text[:40]!a}"
        )
    return text.strip()


def _study(text: str) -> str:
    return check_text(text, "what the bundle may run for")


def _author_key(text: str) -> AuthorKey:
    try:
        return parse_author_key(text)
    except UsageError as problem:
        raise UsageError(f"is invalid: {problem}") from None


def _distinct_keys(keys: tuple[AuthorKey, ...]) -> tuple[AuthorKey, ...]:
    if len({key.raw for key in keys}) != len(keys):
        raise invalid("names one key twice")
    return keys


def _moment(parse: Callable[[str], datetime]) -> PlainValidator:
    """Return the validator of a time, as text or as TOML's own date or time without quotes."""

    def validate(value: object) -> datetime:
        if not isinstance(value, str | date):
            raise PydanticKnownError("string_type")
        try:
            return parse(value.isoformat() if isinstance(value, date) else value)
        except UsageError as problem:
            raise invalid(str(problem)) from None

    return PlainValidator(validate)


Person = Annotated[str, Parsed(check_person)]
Moment = Annotated[datetime, _moment(parse_time)]


@dataclass(frozen=True)
class Approval:
    """One person's approval, with its time in UTC."""

    by: str
    at: datetime


@dataclass(frozen=True)
class AuthorSignature:
    """Signature of a bundle: the fingerprint of the author's key, and 64 bytes."""

    author: str
    signature: bytes


class ApprovedBundle(StrictModel):
    """An approved app bundle, an entry [[bundles]] of policy.toml.

    Attributes:
        sha256: digest of its bytes.
        name: publisher, name and version.
        study: the study that it may run for.
        end: the first moment at which it may no longer run, UTC.
        approved_by, approved_at: the first person's approval.
        second_approved_by, second_approved_at: the second person's; None where there is none.
        author, signature: the author's signature; None where the approval came without.
    """

    sha256: Sha256
    name: str = Field(min_length=1)
    study: Annotated[str, Parsed(_study)] = Field(examples=["what it may run for"])
    end: Annotated[datetime, _moment(parse_end)] = Field(alias="until", examples=["YYYY-MM-DD"])
    approved_by: Person
    approved_at: Moment
    second_approved_by: Person | None = None
    second_approved_at: Moment | None = None
    author: Annotated[str, Field(min_length=1)] | None = None
    signature: Annotated[bytes, Parsed(parse_signature)] | None = None

    @model_validator(mode="after")
    def _check_pairs(self) -> Self:
        for pair in (("second_approved_by", "second_approved_at"), ("author", "signature")):
            missing = [name for name in pair if getattr(self, name) is None]
            if len(missing) == 1:
                raise invalid("is missing", missing[0].replace("_", "-"))
        if self.second_approved_by and same_person(self.approved_by, self.second_approved_by):
            raise invalid(
                f"is the same person as approved-by, {self.approved_by!r}; delete it",
                "second-approved-by",
            )
        return self

    @property
    def approvals(self) -> tuple[Approval, ...]:
        """The first person's approval, and the second's where there is one."""
        first = Approval(self.approved_by, self.approved_at)
        if self.second_approved_by is None or self.second_approved_at is None:
            return (first,)
        return first, Approval(self.second_approved_by, self.second_approved_at)

    @property
    def signed(self) -> AuthorSignature | None:
        """The author's signature; None where the approval came without."""
        if self.author is None or self.signature is None:
            return None
        return AuthorSignature(self.author, self.signature)

    @property
    def last(self) -> str:
        """Its end for people: the last day, or the time where it ends within a day."""
        return shown_end(self.end)


class ApprovalRules(StrictModel):
    """Section [approval] of policy.toml: requirements on every approval.

    Attributes:
        second_approver: if true, two people must approve.
        longest_days: days after its first approval in which a bundle may run.
        author_keys: one of these must have signed the bundle; empty = no signature is required.
    """

    second_approver: bool = False
    longest_days: int = Field(default=LONGEST_DAYS, ge=1, le=LONGEST_DAYS)
    author_keys: Annotated[
        tuple[Annotated[AuthorKey, Parsed(_author_key)], ...],
        Strict(False),
        AfterValidator(_distinct_keys),
    ] = ()

    def refusal(self, bundle: ApprovedBundle | None, now: datetime) -> str | None:
        """Return the reason why a bundle may not run.

        Args:
            bundle: its entry in the policy; None where there is none.
            now: the moment, with its offset.

        Returns:
            The reason; None where it may run.
        """
        if bundle is None:
            return "the app bundle is not approved, or no longer"
        if now >= bundle.end:
            return f"the approval of {bundle.name} for {bundle.study!r} ended on {bundle.last}"
        if self.second_approver and len(bundle.approvals) < 2:
            return (
                f"{bundle.name} is approved by {bundle.approvals[0].by} alone, and the policy "
                "requires a second approver"
            )
        latest = max(approval.at for approval in bundle.approvals)
        if now < latest:
            return f"{bundle.name} is approved only from {latest.isoformat()} on"
        return self.too_long(bundle.approvals[0].at, bundle.end) or self.unsigned(
            bundle.sha256, bundle.name, bundle.signed
        )

    def too_long(self, begin: datetime, end: datetime) -> str | None:
        """Return the reason why an approval is too long; None if it is not."""
        # By days of the calendar, so that 365 of them reach the end of the same date next year.
        days = (_last_moment(end).date() - begin.astimezone(UTC).date()).days
        if days <= self.longest_days:
            return None
        return (
            f"the approval is for {days} days, more than the {self.longest_days} of "
            "approval.longest-days"
        )

    def unsigned(self, sha256: str, name: str, signed: AuthorSignature | None) -> str | None:
        """Return the reason why a signature does not satisfy the policy; None if it does."""
        if not self.author_keys:
            return None
        if signed is None:
            return f"{name} has no signature of its author, which the policy requires"
        for key in self.author_keys:
            if key.fingerprint == signed.author:
                if key.signed(signed.signature, sha256, name):
                    return None
                return f"the author's signature of {name} does not hold for this bundle"
        return f"{name} is signed by the key {signed.author}, which is not among author-keys"


def _folded(name: str) -> str:
    # Once more behind the folding, which can take a letter apart.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    # A combining mark is no \w, and stays: it is a part of its letter.
    kept = "".join(c if c.isalnum() or unicodedata.combining(c) else " " for c in folded)
    return " ".join(kept.split())


def _last_moment(end: datetime) -> datetime:
    return end - timedelta(microseconds=1)
