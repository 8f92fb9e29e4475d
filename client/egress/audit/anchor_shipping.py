"""Anchors of the audit log, signed and shipped to where the site's own machine cannot change them.

`FILE` gets a line at its end: a file of another machine, or of a mount that is written once. `URL`
gets the line by POST, over https; http is for this machine alone, where something passes it on.

What was made and not yet shipped waits below `site.state`, and goes first the next time, as it
was: an answer that got lost does not break the chain of anchors. Each place has a chain of its own.
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
from client.egress.audit.audit_log import BEGINNING, Anchor, anchor_now
from client.egress.audit.signed_anchor import MAX_LINE, SignedAnchor, sign_anchor
from common.atomic_io import write_text
from common.errors import AuditError, UsageError

TIMEOUT_S = 20.0
"""How long a receiver may be silent."""

_FOLDER = "anchors"


@dataclass(frozen=True)
class Place:
    """Where anchors go.

    Attributes:
        to: as it was given; a file's path made absolute.
        url: taken apart; None for a file.
    """

    to: str
    url: SplitResult | None

    @classmethod
    def parse(cls, to: str, state: Path) -> Place:
        """Read what `--to` or a setting says.

        Args:
            to: a path, or an http or https URL.
            state: the site's state folder, in which it must not lie.

        Raises:
            UsageError: it is no such place.
        """
        if "://" not in to:
            path = Path(to).absolute()
            if path.resolve().is_relative_to(state.resolve()):
                raise UsageError(
                    f"{path} lies in the site's own state folder {state}: whoever changes the log "
                    "there changes its anchors too; give a file on another machine or a write-once "
                    "mount"
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
                f"{to} is not encrypted, and whoever is on the way could swallow anchors unseen; "
                "use https, or http to this machine alone (127.0.0.1)"
            )
        return cls(to, url)


def ship_anchor(
    log: Path,
    site: str,
    key: ec.EllipticCurvePrivateKey,
    to: str,
    *,
    ca: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    now: datetime | None = None,
) -> SignedAnchor:
    """Sign what the audit log holds, and ship it out.

    Args:
        log: the audit log; its folder is the site's state.
        site: the site's name.
        key: the node's private key.
        to: a file or a URL, see `Place`.
        ca: the authorities that a server's certificate is checked against; the system's where None.
        timeout_s: how long the server may be silent.
        now: the time; the clock's where None.

    Returns:
        The anchor; once it is returned it is at the place, and on the disk where that is a file.

    Raises:
        UsageError: the place cannot be one.
        AuditError: the log was changed, or does not hold what was shipped before; or the place does
            not take the anchor, which then waits.
    """
    place = Place.parse(to, log.parent)
    deliver = _delivery(place, ca, timeout_s)
    name = hashlib.sha256(place.to.encode()).hexdigest()[:16]
    last, waiting = (log.parent / _FOLDER / f"{name}.{kind}" for kind in ("last", "waiting"))
    try:
        with _held(log.parent / _FOLDER / f"{name}.lock", log):
            if waiting.exists():
                deliver(_read(waiting), _read(last))
                waiting.replace(last)
            before = _read(last) or _at_the_place(place)
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
            f"the audit log's anchor was not shipped to {place.to}: {problem.strerror or problem}"
        ) from problem
    return made


def last_shipped(log: Path, to: str) -> SignedAnchor | None:
    """Return the last anchor that this site has shipped to a place; None where it knows of none."""
    name = hashlib.sha256(Place.parse(to, log.parent).to.encode()).hexdigest()[:16]
    return _read(log.parent / _FOLDER / f"{name}.last")


def shipped_before(log: Path) -> list[Anchor]:
    """Return what the log held when anchors were shipped last, to every place there is."""
    shipped = (_read(path) for path in sorted((log.parent / _FOLDER).glob("*.last")))
    return [one.anchor for one in shipped if one is not None]


_Deliver = Callable[[SignedAnchor | None, SignedAnchor | None], None]


def _delivery(place: Place, ca: Path | None, timeout_s: float) -> _Deliver:
    """Return what brings an anchor to a place, given the one that should be its last."""
    url = place.url
    if url is None:
        return lambda anchor, before: _append(Path(place.to), anchor, before)
    context = None
    if url.scheme == "https":
        try:
            context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        except OSError as problem:  # ssl.SSLError is one
            raise UsageError(f"--ca {ca} cannot be read as certificates: {problem}") from problem
    return lambda anchor, _before: _post(url, anchor, context, timeout_s)


def _append(path: Path, anchor: SignedAnchor | None, before: SignedAnchor | None) -> None:
    """Add an anchor to a file, and wait until the disk has it."""
    if anchor is None:
        return
    ends, torn = _ends(path)
    if ends == anchor:  # shipped, but a crash came before that was written down
        return
    if before is not None and ends != before:
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


def _ends(path: Path) -> tuple[SignedAnchor | None, bool]:
    """Return the last whole anchor of a file, and whether half a line comes behind it."""
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
        raise AuditError(f"{path} holds something else than anchors; give another file")
    return None, bool(rest)


def _at_the_place(place: Place) -> SignedAnchor | None:
    return _ends(Path(place.to))[0] if place.url is None else None


def _post(
    url: SplitResult, anchor: SignedAnchor | None, context: ssl.SSLContext | None, timeout_s: float
) -> None:
    """Send an anchor; redirections are not followed."""
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
        raise AuditError(f"{shown} does not take the anchor: it answers {status}")


def _read(path: Path) -> SignedAnchor | None:
    if not path.exists():
        return None
    try:
        return SignedAnchor.parse(path.read_bytes().rstrip(b"\n"))
    except AuditError as problem:
        raise AuditError(f"{path}: {problem}; was it changed?") from None


@contextmanager
def _held(path: Path, log: Path) -> Iterator[None]:
    """Hold a place against other processes; what root makes meanwhile is the log's owner's."""
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


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems of other machines have no such call
            os.fsync(handle)
    finally:
        os.close(handle)
