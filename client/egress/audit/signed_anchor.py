"""Signed anchors of the audit log: what it held at a time, said so that it cannot be taken back.

    {"head": "<SHA-256 of line 3>", "key": "SHA256:…", "kind": "fedvitals-audit-anchor-1",
     "lines": 3, "previous": "<SHA-256 of the anchor before>", "signature": "<base64>",
     "site": "hosp1", "time": "2026-03-02T09:30:00+00:00"}

One line of JSON with sorted keys and no spaces. The node's key signs the same without `signature`,
by ECDSA P-384 with SHA-384 (FIPS 186-5). Each anchor names the one before, so that none can be
taken out of where they are kept. They are shipped out (`client.egress.audit.anchor_shipping`):
whoever rewrites the log, and even signs new anchors with the stolen key, still contradicts those
that have left.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from client.config.node_key import fingerprint
from client.egress.audit.audit_log import BEGINNING, Anchor
from common.errors import AuditError

KIND = "fedvitals-audit-anchor-1"
MAX_LINE = 4096
"""Bytes, more than any anchor has."""

_HASH = re.compile(r"[0-9a-f]{64}")
_TYPES = {
    "head": str,
    "key": str,
    "kind": str,
    "lines": int,
    "previous": str,
    "signature": str,
    "site": str,
    "time": str,
}


@dataclass(frozen=True)
class SignedAnchor:
    """One line of those that were shipped.

    Attributes:
        head: SHA-256 of the log's last line.
        key: the fingerprint of the key that signed.
        kind: `KIND`.
        lines: how many the log had.
        previous: SHA-256 of the anchor before, as a line; `BEGINNING` where there was none.
        signature: in base64.
        site: whose log it is.
        time: when, in UTC.
    """

    head: str
    key: str
    kind: str
    lines: int
    previous: str
    signature: str
    site: str
    time: str

    @property
    def line(self) -> bytes:
        """The anchor as it is shipped, without a line break."""
        return _encode(asdict(self))

    @property
    def digest(self) -> str:
        """What the next anchor calls this one."""
        return hashlib.sha256(self.line).hexdigest()

    @property
    def anchor(self) -> Anchor:
        """What the log has to hold."""
        return Anchor(self.lines, self.head)

    @classmethod
    def parse(cls, line: bytes) -> SignedAnchor:
        """Read a line; `AuditError` where it is not exactly as an anchor is written."""
        try:
            values = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            values = None
        if (
            not isinstance(values, dict)
            or values.keys() != _TYPES.keys()
            or any(type(values[name]) is not kind for name, kind in _TYPES.items())
        ):
            raise AuditError("it is no anchor")
        made = cls(**values)
        hashes = _HASH.fullmatch(made.head) and _HASH.fullmatch(made.previous)
        if made.line != line or made.kind != KIND or not hashes or made.lines < 0:
            raise AuditError("it is not written as an anchor is")
        return made

    def check_signature(self, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> None:
        """Raise `AuditError` where none of the keys, by fingerprint, has signed it."""
        key = keys.get(self.key)
        if key is None:
            raise AuditError(f"it is signed by {self.key!r}, not by {' or '.join(keys)}")
        try:
            signature = base64.b64decode(self.signature, validate=True)
            key.verify(signature, _signed(asdict(self)), ec.ECDSA(SHA384()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise AuditError("its signature is not the key's") from None


def sign_anchor(
    anchor: Anchor,
    site: str,
    key: ec.EllipticCurvePrivateKey,
    previous: str = BEGINNING,
    now: datetime | None = None,
) -> SignedAnchor:
    """Sign what a log holds.

    Args:
        anchor: its lines and the hash of the last.
        site: whose log it is.
        key: the node's.
        previous: the digest of the anchor that was shipped before to the same place.
        now: the time; the clock's where None.
    """
    moment = datetime.now(UTC) if now is None else now.astimezone(UTC)
    values = {
        "head": anchor.head,
        "key": fingerprint(key.public_key()),
        "kind": KIND,
        "lines": anchor.lines,
        "previous": previous,
        "site": site,
        "time": moment.isoformat(timespec="seconds"),
    }
    signature = key.sign(_signed(values), ec.ECDSA(SHA384()))
    return SignedAnchor(**values, signature=base64.b64encode(signature).decode("ascii"))  # type: ignore[arg-type]


def check_anchors(
    lines: Iterable[bytes],
    keys: Sequence[ec.EllipticCurvePublicKey],
    name: str,
    site: str | None = None,
) -> list[SignedAnchor]:
    """Check the anchors that were shipped to one place, from the first to the last.

    A line that stands there twice in a row was sent again after an answer had been lost; half a
    line before the whole one was cut off by a crash. Both are passed over.

    Args:
        lines: without line breaks.
        keys: the node's public keys; several where it has had several.
        name: how messages call the place.
        site: whose they have to be; None: whoever's, but of one site.

    Raises:
        AuditError: naming the line where one was changed, removed, added or moved, or is of
            another key or site; or where there is none.
    """
    known = {fingerprint(key): key for key in keys}
    found: list[SignedAnchor] = []
    torn = b""
    for number, line in enumerate(lines, start=1):
        try:
            anchor = SignedAnchor.parse(line)
            if not line.startswith(torn):
                raise AuditError(f"line {number - 1} is no anchor")
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
        raise AuditError(f"{name}: its last line is only the half of an anchor; ship another")
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
            "site began anew"
        )
    if found and anchor.lines < found[-1].lines:
        raise AuditError(f"the log has {anchor.lines} lines, and had {found[-1].lines} before")


def _signed(values: Mapping[str, Any]) -> bytes:
    return _encode({name: value for name, value in values.items() if name != "signature"})


def _encode(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
