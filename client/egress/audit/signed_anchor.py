"""Signed anchors of the audit log: statements of its state at a time, which cannot be denied later.

    {"head": "<SHA-256 of line 3>", "key": "SHA256:…", "kind": "fedvitals-audit-anchor-1",
     "lines": 3, "previous": "<SHA-256 of the anchor before>", "signature": "<base64>",
     "site": "hosp1", "time": "2026-03-02T09:30:00+00:00"}

An anchor is one line of JSON with sorted keys and no spaces. The node's key signs the same line
without `signature`, by ECDSA P-384 with SHA-384 (FIPS 186-5). Each anchor holds the hash of the one
before, so that none can be removed from where they are kept. They are shipped off the machine
(`client.egress.audit.anchor_shipping`): whoever rewrites the log, and even signs new anchors with
the stolen key, contradicts those that were shipped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384

from client.config.node_key import fingerprint
from client.egress.audit.hash_chain import BEGINNING, Anchor
from common.errors import AuditError

KIND = "fedvitals-audit-anchor-1"
MAX_LINE = 4096
"""In bytes; every anchor is shorter."""

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
    """A signed anchor.

    Attributes:
        head: SHA-256 of the log's last line.
        key: fingerprint of the signing key.
        kind: `KIND`.
        lines: number of lines of the log.
        previous: SHA-256 of the previous anchor's line; `BEGINNING` for the first.
        signature: the signature in base64.
        site: name of the site.
        time: time of signing, in UTC.
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
        """SHA-256 of the line, which the next anchor holds as `previous`."""
        return hashlib.sha256(self.line).hexdigest()

    @property
    def anchor(self) -> Anchor:
        """The signed state of the log."""
        return Anchor(self.lines, self.head)

    @classmethod
    def parse(cls, line: bytes) -> SignedAnchor:
        """Parse a line; `AuditError` if it is not exactly an anchor's canonical form."""
        try:
            values = json.loads(line) if len(line) <= MAX_LINE else None
        except (ValueError, RecursionError):
            values = None
        if (
            not isinstance(values, dict)
            or values.keys() != _TYPES.keys()
            or any(type(values[name]) is not kind for name, kind in _TYPES.items())
        ):
            raise AuditError("it is not an anchor")
        made = cls(**values)
        hashes = _HASH.fullmatch(made.head) and _HASH.fullmatch(made.previous)
        if made.line != line or made.kind != KIND or not hashes or made.lines < 0:
            raise AuditError("it is not an anchor's canonical form")
        return made

    def check_signature(self, keys: Mapping[str, ec.EllipticCurvePublicKey]) -> None:
        """Raise `AuditError` if none of the keys, by fingerprint, has signed it."""
        key = keys.get(self.key)
        if key is None:
            raise AuditError(f"it is signed by {self.key!r}, not by {' or '.join(keys)}")
        try:
            signature = base64.b64decode(self.signature, validate=True)
            key.verify(signature, _signed(asdict(self)), ec.ECDSA(SHA384()))
        except (InvalidSignature, binascii.Error, ValueError):
            raise AuditError("its signature does not match its key") from None


def sign_anchor(
    anchor: Anchor,
    site: str,
    key: ec.EllipticCurvePrivateKey,
    previous: str = BEGINNING,
    now: datetime | None = None,
) -> SignedAnchor:
    """Sign the state of a log.

    Args:
        anchor: number of lines and hash of the last.
        site: name of the site.
        key: the node's private key.
        previous: digest of the anchor that was shipped to the same destination before.
        now: the time; None = the clock's.
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


def _signed(values: Mapping[str, Any]) -> bytes:
    return _encode({name: value for name, value in values.items() if name != "signature"})


def _encode(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
