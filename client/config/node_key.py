"""Reader of the node's key pair: ECDSA P-384 in OpenSSH's format."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
    load_ssh_public_key,
)

from common.errors import AuditError, NodeError

_CURVE = ec.SECP384R1.name


def read_node_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the private key.

    Raises:
        NodeError: if it cannot be read, has a password, or is of another kind.
    """
    name, make = f"node.key = {path}", "make one with: ssh-keygen -t ecdsa -b 384 -N '' -f node.key"
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except OSError as problem:
        raise NodeError(f"{name} cannot be read: {problem.strerror}") from problem
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        raise NodeError(
            f"{name} is not a private key without a password in OpenSSH's format; {make}"
        ) from problem
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != _CURVE:
        raise NodeError(f"{name} is not ECDSA P-384; {make}")
    return key


def read_public_key(path: Path) -> ec.EllipticCurvePublicKey:
    """Read a public key as `ssh-keygen` writes it, e.g. node.pub of the site's request.

    Raises:
        AuditError: if it cannot be read, or is of another kind.
    """
    try:
        key = load_ssh_public_key(path.read_bytes())
    except OSError as problem:
        raise AuditError(f"the key {path} cannot be read: {problem.strerror}") from problem
    except (ValueError, UnsupportedAlgorithm) as problem:
        raise AuditError(
            f"{path} is not a public key in OpenSSH's format; the site's is node.pub"
        ) from problem
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != _CURVE:
        raise AuditError(f"{path} is not ECDSA P-384; the site's key is node.pub")
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key as `ssh-keygen -l` shows it."""
    blob = base64.b64decode(key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1])
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode("ascii")
    return f"SHA256:{digest.rstrip('=')}"
