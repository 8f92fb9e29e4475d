"""The audit log's anchors that were shipped, read back and checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.config.node_key import read_node_key, read_public_key
from client.config.site_config import SiteConfig, load_site_config
from client.egress.audit.anchor_shipping import last_shipped
from client.egress.audit.signed_anchor import SignedAnchor, check_anchors
from common.errors import AuditError, UsageError


def check_shipped(
    anchors: Path, keys: Sequence[Path], config: Path | None = None
) -> list[SignedAnchor]:
    """Read the anchors that were shipped, and check all that needs no log.

    Args:
        anchors: the file, or a copy of it.
        keys: files of the node's public keys; none: that of the private key in site.toml.
        config: the site's site.toml, at the site; None elsewhere.

    Returns:
        The anchors, the oldest first; at least one.

    Raises:
        AuditError: one was changed, removed, added or moved.
        UsageError: there is neither a key nor a site.toml.
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
    found = check_anchors(lines, known, str(anchors), site)
    if settings is not None:
        _check_end(anchors, found, settings)
    return found


def _check_end(anchors: Path, found: Sequence[SignedAnchor], settings: SiteConfig) -> None:
    """At the site itself it is known what went there last."""
    state = settings.site.state
    if anchors.resolve().is_relative_to(state.resolve()):
        return
    last = last_shipped(settings.audit_log, str(anchors))
    if last is not None and last not in found:
        raise AuditError(
            f"{anchors}: anchors are missing at the end; the site shipped one of {last.lines} "
            f"lines at {last.time}"
        )
