"""Editor of the approvals in policy.toml, for `python -m client approve`.

All other bytes of the file, including comments, are kept. The new file is parsed before it replaces
the old one.
"""

from __future__ import annotations

import base64
import os
import tomllib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client.policy.app_bundle import BundleContents
from client.policy.approvals import (
    ApprovedBundle,
    AuthorSignature,
    check_person,
    check_text,
    parse_end,
    same_person,
    shown_end,
)
from client.policy.policy import Policy, load_policy
from client.policy.toml_edit import Changes, change_table, toml_line
from common.errors import PolicyError, UsageError
from common.files.atomic_io import atomic_file
from common.flower.bundle_signature import BundleSignature

_SECOND = ("second-approved-by", "second-approved-at")


@dataclass(frozen=True)
class Grant:
    """One person's approval of a bundle.

    Attributes:
        by: the person's name.
        study: the study that the bundle may run for.
        until: end of the approval, ISO 8601; a date means the end of that day in UTC.
        signature: the author's signature of the bundle; None without one.
    """

    by: str
    study: str
    until: str
    signature: BundleSignature | None = None


def approve_bundle(policy: Path, bundle: BundleContents, grant: Grant, now: datetime) -> None:
    """Add a bundle to policy.toml.

    Args:
        policy: the file.
        bundle: the approved bundle.
        grant: the approval: by whom, for which study, until when.
        now: the time, with its offset.

    Raises:
        PolicyError: if the policy cannot be read or written, has the bundle already, or requires
            what the grant lacks: an earlier end, the author's signature.
        UsageError: if a name, a date or the signature is invalid.
    """
    before = load_policy(policy)
    if bundle.sha256 in before.bundles:
        raise PolicyError(
            f"{policy} has the bundle {bundle.sha256[:12]} already; to change its end give --renew"
        )
    entry = {"sha256": bundle.sha256, "name": bundle.name}
    entry["study"] = _checked("study", grant.study)
    entry["until"] = check_until(before, grant.until, now)
    entry |= {"approved-by": _checked("name", grant.by), "approved-at": _stated(now)}
    entry |= check_signature(before, bundle, grant.signature)
    _edit(policy, bundle.sha256, entry)


def approve_second(policy: Path, bundle: BundleContents, by: str, now: datetime) -> None:
    """Add a second person's approval to an entry of policy.toml.

    Args:
        policy: the file.
        bundle: the approved bundle.
        by: the second person.
        now: the time, with its offset.

    Raises:
        PolicyError: if the policy cannot be read or written, has no first approval of this bundle
            in force, or has it from the same person.
        UsageError: if the name is invalid.
    """
    known = _entry(load_policy(policy), bundle)
    by, first = _checked("name", by), known.approvals[0].by
    if len(known.approvals) > 1:
        raise PolicyError(
            f"{bundle.name} has two approvals already, the second by {known.approvals[1].by}"
        )
    if same_person(first, by):
        raise PolicyError(
            f"{first} approved {bundle.name} already; a second approval must be another person's"
        )
    if now >= known.end:
        raise PolicyError(f"the approval of {bundle.name} ended on {known.last}; give --renew")
    _edit(policy, bundle.sha256, dict(zip(_SECOND, (by, _stated(now)), strict=True)))


def renew_bundle(policy: Path, bundle: BundleContents, grant: Grant, now: datetime) -> None:
    """Renew a bundle's approval in policy.toml; a second approval must be given again too.

    Args:
        policy: the file.
        bundle: the approved bundle.
        grant: the new approval; without a signature the entry's own is kept.
        now: the time, with its offset.

    Raises:
        PolicyError: as `approve_bundle`, but the bundle must have an entry.
        UsageError: as `approve_bundle`.
    """
    before = load_policy(policy)
    known = _entry(before, bundle)
    entry: dict[str, str | None] = {
        "study": _checked("study", grant.study),
        "until": check_until(before, grant.until, now),
        "approved-by": _checked("name", grant.by),
        "approved-at": _stated(now),
        **dict.fromkeys(_SECOND),
    }
    if grant.signature is not None or known.signed is None:
        entry |= check_signature(before, bundle, grant.signature)
    elif reason := before.approval.unsigned(bundle.sha256, known.name, known.signed):
        raise PolicyError(f"{reason}; give its .sig file with --signature")
    _edit(policy, bundle.sha256, entry)


def check_until(policy: Policy, until: str, now: datetime) -> str:
    """Return the end of an approval in its written form; refuse one that is past or too late.

    Args:
        policy: the policy with the longest time allowed.
        until: ISO 8601, as in `client.policy.approvals.parse_end`.
        now: the beginning of the approval.

    Raises:
        PolicyError: if it is longer than the policy allows.
        UsageError: if it is not a date, or past.
    """
    try:
        end = parse_end(until.strip())
    except UsageError as problem:
        raise UsageError(f"--until {problem}") from None
    if end <= now:
        raise UsageError(f"--until {until} is past")
    if reason := policy.approval.too_long(now, end):
        raise PolicyError(f"{reason}; give an earlier --until than {until}")
    return shown_end(end)


def check_signature(
    policy: Policy, bundle: BundleContents, signature: BundleSignature | None
) -> dict[str, str]:
    """Return the keys that record an author's signature; none without a signature.

    Raises:
        PolicyError: if the policy requires a signature that is missing, or another author's.
        UsageError: if it is not valid for this bundle.
    """
    signed = None
    if signature is not None:
        signature.check(bundle.sha256, bundle.name)
        signed = AuthorSignature(signature.author.fingerprint, signature.signature)
    if reason := policy.approval.unsigned(bundle.sha256, bundle.name, signed):
        raise PolicyError(f"{reason}; give its .sig file with --signature")
    if signed is None:
        return {}
    encoded = base64.b64encode(signed.signature).decode()
    return {"author": signed.author, "signature": encoded}


def _entry(policy: Policy, bundle: BundleContents) -> ApprovedBundle:
    """Return a bundle's entry in the policy."""
    known = policy.bundles.get(bundle.sha256)
    if known is None:
        raise PolicyError(
            f"the policy has no approval of the bundle {bundle.sha256[:12]}; approve it first, "
            "with --study and --until"
        )
    return known


def _checked(what: str, text: str) -> str:
    try:
        if what == "name":
            return check_person(text)
        return check_text(text, "what the bundle may run for")
    except UsageError as problem:
        raise UsageError(f"the approval's {what} {problem}") from None


def _stated(now: datetime) -> str:
    return now.isoformat(timespec="seconds")


def _edit(policy: Path, sha256: str, changes: Changes) -> None:
    """Change a bundle's entry, or add one if the changes have its SHA-256."""
    try:
        text = policy.read_bytes().decode()
        digests = [entry["sha256"] for entry in tomllib.loads(text).get("bundles", [])]
        if (sha256 in digests) == ("sha256" in changes):
            raise PolicyError(f"{policy} was changed meanwhile; check it and try again")
        index = digests.index(sha256) if sha256 in digests else len(digests)
        edited = change_table(text, "bundles", index, changes)
        if edited is None:
            lines = "; ".join(toml_line(key, value) for key, value in changes.items() if value)
            raise PolicyError(
                f"{policy} has a layout that this command cannot edit; write into the bundle's "
                f"[[bundles]] by hand: {lines}"
            )
        with atomic_file(policy) as partial:
            partial.touch(0o600)
            partial.write_bytes(edited.encode())
            status = policy.stat()
            partial.chmod(status.st_mode & 0o777)
            if os.geteuid() == 0:  # approved by root, read by the node's own user
                os.chown(partial, status.st_uid, status.st_gid)
            load_policy(partial)
    except OSError as problem:
        raise PolicyError(f"{policy} cannot be written: {problem.strerror}") from problem
