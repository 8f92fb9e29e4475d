"""An audit log whose anchors are shipped."""

from __future__ import annotations

import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from client.egress.audit.anchor_shipping import ship_anchor
from client.egress.audit.anchor_verification import verify_anchors
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import verify_log
from client.egress.audit.signed_anchor import SignedAnchor

KEY = ec.generate_private_key(ec.SECP384R1())
PUBLIC = KEY.public_key()


def write(log: Path, lines: int, word: str = "sent") -> None:
    audit = AuditLog(log)
    for _ in range(lines):
        audit.append({"decision": word})


def ship(log: Path, to: Path | str, ca: Path | None = None) -> SignedAnchor:
    return ship_anchor(log, "hosp1", KEY, str(to), ca=ca, timeout_s=5)


def checked(log: Path, file: Path, key: ec.EllipticCurvePublicKey = PUBLIC) -> int:
    """Verify as `audit verify` does on another machine; return the number of anchors."""
    lines = file.read_bytes().removesuffix(b"\n").split(b"\n")
    found = verify_anchors(lines, [key], file.name)
    verify_log(log, *(one.anchor for one in found))
    return len(found)


def rewrite(log: Path, lines: int) -> None:
    """Rewrite the log and its anchor, as an attacker with the site's state folder can."""
    shutil.rmtree(log.parent)
    write(log, lines, word="forged")
