"""Signing and shipping of the audit log's anchors, to where the site's machine cannot change them.

A destination is a file, which is on another machine or a write-once mount and gets a line appended,
or a URL, which gets the line by POST over https (http only to this machine, for a local relay).

An anchor that was signed but not delivered is kept below `site.state` and sent again unchanged,
before any new one: a lost response does not break the chain. Each destination has its own chain.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec

from client.config.node_section import LOOPBACK
from client.egress.audit.audit_log import anchor_now
from client.egress.audit.hash_chain import BEGINNING, Anchor
from client.egress.audit.signed_anchor import MAX_LINE, SignedAnchor, sign_anchor
from common.errors import AuditError, UsageError
from common.files.atomic_io import write_text

RECEIVER_TIMEOUT_S = 20.0
"""Time without a response after which a receiver has timed out."""

_FOLDER = "anchors"


@dataclass(frozen=True)
class AnchorDestination:
    """Destination of shipped anchors: a file or a URL.

    Attributes:
        name: as it was given; a file's path made absolute.
        url: the parsed URL; None for a file.
    """

    name: str
    url: SplitResult | None

    @classmethod
    def parse(cls, to: str, state: Path) -> AnchorDestination:
        """Parse the value of `--to` or of the setting.

        Args:
            to: a path, or an http or https URL.
            state: the site's state folder, which must not contain the path.

        Raises:
            UsageError: if it is no valid destination.
        """
        if "://" not in to:
            path = Path(to).absolute()
            if path.resolve().is_relative_to(state.resolve()):
                raise UsageError(
                    f"{path} is in the site's own state folder {state}: whoever changes the log "
                    "there can change its anchors too; give a file on another machine or a "
                    "write-once mount"
                )
            return cls(str(path), None)
        url = urlsplit(to)
        try:
            usable = bool(url.hostname) and url.port != 0 and not url.username
        except ValueError:
            usable = False
        if url.scheme not in ("https", "http") or not usable or not to.isascii():
            raise UsageError(f"anchors go to a file or to https://HOST[:PORT]/PATH, got {to!r}")
        if url.scheme == "http" and url.hostname not in LOOPBACK:
            raise UsageError(
                f"{to} is not encrypted, and anchors could be dropped on the way unnoticed; use "
                "https, or http to this machine only (127.0.0.1)"
            )
        return cls(to, url)


def ship_anchor(
    log: Path,
    site: str,
    key: ec.EllipticCurvePrivateKey,
    to: str,
    *,
    ca: Path | None = None,
    timeout_s: float = RECEIVER_TIMEOUT_S,
    now: datetime | None = None,
) -> SignedAnchor:
    """Sign the audit log's state, and ship it.

    Args:
        log: the audit log; its folder is the site's state.
        site: the site's name.
        key: the node's private key.
        to: a file or a URL, see `AnchorDestination`.
        ca: authorities that a server's certificate is checked against; None = the system's.
        timeout_s: time without a response after which the server has timed out.
        now: the time; None = the clock's.

    Returns:
        The anchor, once it is delivered; on the disk if the destination is a file.

    Raises:
        UsageError: if the destination is invalid.
        AuditError: if the log was changed or does not match what was shipped before, or the
            destination does not take the anchor, which is then kept for the next time.
    """
    destination = AnchorDestination.parse(to, log.parent)
    deliver = _delivery(destination, ca, timeout_s)
    folder, name = log.parent / _FOLDER, _short_name(destination)
    last, waiting = (folder / f"{name}.{kind}" for kind in ("last", "waiting"))
    try:
        with _locked(folder / f"{name}.lock", log):
            if waiting.exists():
                deliver(_read(waiting), _read(last))
                waiting.replace(last)
            before = _read(last) or _last_at(destination)
            if before is not None and before.site != site:
                raise AuditError(f"{to} holds anchors of the site {before.site!r}; give another")
            anchor = anchor_now(log, *([] if before is None else [before.anchor]))
            previous = BEGINNING if before is None else before.digest
            made = sign_anchor(anchor, site, key, previous, now)
            write_text(waiting, f"{made.line.decode('ascii')}\n")
            deliver(made, before)
            waiting.replace(last)
    except OSError as problem:
        raise AuditError(
            f"the audit log's anchor was not shipped to {destination.name}: "
            f"{problem.strerror or problem}"
        ) from problem
    return made


def last_shipped(log: Path, to: str) -> SignedAnchor | None:
    """Return the last anchor that this site has shipped to a destination; None if unknown."""
    name = _short_name(AnchorDestination.parse(to, log.parent))
    return _read(log.parent / _FOLDER / f"{name}.last")


def shipped_before(log: Path) -> list[Anchor]:
    """Return the log's state in the last anchor shipped to each destination."""
    shipped = (_read(path) for path in sorted((log.parent / _FOLDER).glob("*.last")))
    return [one.anchor for one in shipped if one is not None]


def _short_name(destination: AnchorDestination) -> str:
    return hashlib.sha256(destination.name.encode()).hexdigest()[:16]


_Deliver = Callable[[SignedAnchor | None, SignedAnchor | None], None]


def _delivery(destination: AnchorDestination, ca: Path | None, timeout_s: float) -> _Deliver:
    """Return a function that delivers an anchor, given the last one at the destination."""
    url = destination.url
    if url is None:
        return lambda anchor, before: _append(Path(destination.name), anchor, before)
    context = None
    if url.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except OSError as problem:  # includes ssl.SSLError
            raise UsageError(f"--ca {ca} cannot be read as certificates: {problem}") from problem
    return lambda anchor, _before: _post(url, anchor, context, timeout_s)


def _append(path: Path, anchor: SignedAnchor | None, before: SignedAnchor | None) -> None:
    """Append an anchor to a file, and wait until the disk has it."""
    if anchor is None:
        return
    last, torn = _last_in_file(path)
    if last == anchor:  # delivered, but a crash came before this was recorded
        return
    if before is not None and last != before:
        raise AuditError(
            f"{path} does not end with the anchor that was shipped there last, of "
            f"{before.lines} lines at {before.time}; is its mount there? If it was changed, keep "
            "it as it is, and give another file"
        )
    line = (b"\n" if torn else b"") + anchor.line + b"\n"
    new = not path.exists()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        if os.write(handle, line) != len(line):
            raise OSError(None, "the disk took half a line; is it full?")
        os.fsync(handle)
    finally:
        os.close(handle)
    if new:
        _sync_folder(path.parent)


def _last_at(destination: AnchorDestination) -> SignedAnchor | None:
    return _last_in_file(Path(destination.name))[0] if destination.url is None else None


def _last_in_file(path: Path) -> tuple[SignedAnchor | None, bool]:
    """Return the last whole anchor of a file, and whether half a line follows it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 3 * MAX_LINE))
            *lines, rest = file.read().split(b"\n")
    except FileNotFoundError:
        return None, False
    for line in reversed(lines):
        with suppress(AuditError):
            return SignedAnchor.parse(line), bool(rest)
    if size and not rest:
        raise AuditError(f"{path} holds no anchors but other data; give another file")
    return None, bool(rest)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some network file systems do not support it
            os.fsync(handle)
    finally:
        os.close(handle)


def _post(
    url: SplitResult, anchor: SignedAnchor | None, context: ssl.SSLContext | None, timeout_s: float
) -> None:
    """Send an anchor to a server; redirections are not followed."""
    if anchor is None:
        return
    host, shown = url.hostname or "", url.geturl()
    connection = (
        http.client.HTTPConnection(host, url.port, timeout=timeout_s)
        if context is None
        else http.client.HTTPSConnection(host, url.port, timeout=timeout_s, context=context)
    )
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    try:
        kind = {"Content-Type": "application/x-ndjson"}
        connection.request("POST", target, anchor.line + b"\n", kind)
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as problem:
        raise AuditError(
            f"{shown} shows a certificate that is not trusted ({problem.verify_message}); give its "
            "authority with --ca FILE"
        ) from problem
    except (http.client.HTTPException, ValueError) as problem:
        raise AuditError(f"{shown} does not answer as a web server does: {problem!r}") from problem
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise AuditError(f"{shown} does not take the anchor: HTTP status {status}")


def _read(path: Path) -> SignedAnchor | None:
    if not path.exists():
        return None
    try:
        return SignedAnchor.parse(path.read_bytes().rstrip(b"\n"))
    except AuditError as problem:
        raise AuditError(f"{path}: {problem}; was it changed?") from None


@contextmanager
def _locked(path: Path, log: Path) -> Iterator[None]:
    """Lock a destination against other processes; files that root creates get the log's owner."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if os.geteuid() == 0 and log.exists():
            owner = log.stat()
            for made in (path.parent, *path.parent.iterdir()):
                os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)
        os.close(handle)
