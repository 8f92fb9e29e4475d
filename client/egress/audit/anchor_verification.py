"""Verification of shipped anchors: their order, their signatures, and that none is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from client.config.node_key import fingerprint, read_node_key, read_public_key
from client.config.site_config import SiteConfig, load_site_config
from client.egress.audit.anchor_shipping import last_shipped
from client.egress.audit.hash_chain import BEGINNING
from client.egress.audit.signed_anchor import MAX_LINE, SignedAnchor
from common.errors import AuditError, UsageError


def verify_shipped(
    anchors: Path, keys: Sequence[Path], config: Path | None = None
) -> list[SignedAnchor]:
    """Read the anchors that were shipped, and verify all that needs no log.

    Args:
        anchors: the file of anchors, or a copy of it.
        keys: files of the node's public keys; none = the public half of site.toml's node.key.
        config: the site's site.toml, at the site; None elsewhere.

    Returns:
        The anchors, the oldest first; at least one.

    Raises:
        AuditError: if one was changed, removed, added or moved.
        UsageError: if there is neither a key nor a site.toml.
    """
    settings = None if config is None else load_site_config(config)
    known = [read_public_key(path) for path in keys]
    if settings is not None and not known:
        known = [read_node_key(settings.node.key).public_key()]
    if not known:
        raise UsageError("give the node's public key with --key node.pub, or --config site.toml")
    try:
        lines = anchors.read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as problem:
        raise AuditError(f"{anchors} cannot be read: {problem.strerror}") from problem
    site = None if settings is None else settings.site.id
    found = verify_anchors(lines, known, str(anchors), site)
    if settings is not None:
        _check_end(anchors, found, settings)
    return found


def verify_anchors(
    lines: Iterable[bytes],
    keys: Sequence[ec.EllipticCurvePublicKey],
    name: str,
    site: str | None = None,
) -> list[SignedAnchor]:
    """Verify the anchors that were shipped to one destination, from the first to the last.

    Two equal lines in a row are one anchor, sent again after a response was lost. Half a line
    before the whole one was torn by a crash, and is skipped.

    Args:
        lines: the lines without line breaks.
        keys: the node's public keys, present and former.
        name: name of the destination in error messages.
        site: name of the site; None = any one site.

    Raises:
        AuditError: naming the line that was changed, removed, added or moved, or is of another
            key or site; or if there is no anchor.
    """
    known = {fingerprint(key): key for key in keys}
    found: list[SignedAnchor] = []
    torn = b""
    for number, line in enumerate(lines, start=1):
        try:
            anchor = SignedAnchor.parse(line)
            if not line.startswith(torn):
                raise AuditError(f"line {number - 1} is not an anchor")
            torn = b""
            if found and anchor == found[-1]:
                continue
            anchor.check_signature(known)
            _check_order(anchor, found, site)
        except AuditError as problem:
            if not torn and line and _could_be_torn(line):
                torn = line
                continue
            raise AuditError(f"{name}: line {number}: {problem}") from None
        found.append(anchor)
    if torn:
        raise AuditError(f"{name}: its last line is only half an anchor; ship another")
    if not found:
        raise AuditError(f"{name} holds no anchor; was it removed?")
    return found


def _could_be_torn(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return len(line) <= MAX_LINE and line.startswith(b'{"head":"'[: len(line)])
    return False


def _check_order(anchor: SignedAnchor, found: Sequence[SignedAnchor], site: str | None) -> None:
    if anchor.site != (found[0].site if found else site or anchor.site):
        raise AuditError(f"it is of the site {anchor.site!r}")
    if anchor.previous != (found[-1].digest if found else BEGINNING):
        raise AuditError(
            "it does not follow from the one before: anchors were removed, added or moved, or the "
            "site started a new chain"
        )
    if found and anchor.lines < found[-1].lines:
        raise AuditError(f"the log has {anchor.lines} lines, and had {found[-1].lines} before")


def _check_end(anchors: Path, found: Sequence[SignedAnchor], settings: SiteConfig) -> None:
    """Check at the site itself that the last anchor it shipped to this file is there."""
    state = settings.site.state
    if anchors.resolve().is_relative_to(state.resolve()):
        return
    last = last_shipped(settings.audit_log, str(anchors))
    if last is not None and last not in found:
        raise AuditError(
            f"{anchors}: anchors are missing at the end; the site shipped one of {last.lines} "
            f"lines at {last.time}"
        )
