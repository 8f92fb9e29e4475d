"""Ids that tell nothing: a keyed hash of the hospital's own, with a secret that stays at the site.

The same patient gets the same hash in every ingest with the same secret, so that tables made in
different years agree; without the secret no id can be tried against a hash.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from common.errors import UsageError
from common.paths import home

SECRET_BYTES = 32
_HASH_BYTES = 16


def default_secret() -> Path:
    """Return where a site's secret lies when no file is named."""
    return home() / "site" / "id-secret"


def read_secret(path: Path) -> bytes:
    """Read a site's secret; make one where there is none yet.

    Args:
        path: a file of 64 hexadecimal digits that its owner alone may read.

    Raises:
        UsageError: where it is no such file, or others may read it.
    """
    try:
        if not path.exists():
            _make(path)
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"the secret {path} cannot be read or made: {reason}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"others may read the secret {path}; run `chmod 600 {path}`")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"{path} is no secret of {2 * SECRET_BYTES} hexadecimal digits")
    return secret


def hash_ids(ids: Iterable[str], secret: bytes, kind: str) -> list[str]:
    """Return the keyed hash of each id, 32 hexadecimal digits.

    Args:
        ids: the hospital's ids.
        secret: see `read_secret`.
        kind: ``patient`` or ``stay``: equal ids of different kinds do not look equal.
    """
    person = kind.encode()
    return [
        blake2b(id_.encode(), key=secret, person=person, digest_size=_HASH_BYTES).hexdigest()
        for id_ in ids
    ]


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(file, "w", encoding="ascii") as out:
            out.write(f"{secrets.token_hex(SECRET_BYTES)}\n")
        # Of two that start at once, one makes the secret and the other one reads it, whole.
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
