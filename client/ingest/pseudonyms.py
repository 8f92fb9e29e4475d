"""Pseudonyms: keyed hashes of the hospital's ids, with a secret that stays at the site.

A patient has the same hash in every ingest with the same secret, so tables of different years
agree. Without the secret a known id cannot be tested against a hash.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from common.errors import UsageError
from common.files.paths import STATE_FOLDER, home
from common.files.private import (
    OWNER_ONLY,
    Access,
    create_private_file,
    grant,
    make_private_folder,
)

SECRET_BYTES = 32
_HASH_BYTES = 16


def default_secret() -> Path:
    """Return the default path of a site's secret."""
    return home() / STATE_FOLDER / "id-secret"


def read_secret(path: Path, access: Access = OWNER_ONLY) -> bytes:
    """Read a site's secret; create it if absent.

    Args:
        path: a file of 64 hexadecimal digits.
        access: who may read it: its owner alone, or also a group.

    Raises:
        UsageError: the file is not such a secret, or others may read it.
    """
    try:
        if not path.exists():
            _make(path, access)
        status = path.stat()
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"the secret {path} cannot be read or created: {reason}") from error
    if not access.allows(status):
        raise UsageError(f"others may read the secret {path}; run `chmod 600 {path}`")
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"{path} is not a secret of {2 * SECRET_BYTES} hexadecimal digits")
    return secret


def hash_ids(ids: Iterable[str], secret: bytes, kind: str) -> list[str]:
    """Return the keyed hash of each id, 32 hexadecimal digits.

    Args:
        ids: the hospital's ids.
        secret: see `read_secret`.
        kind: ``patient`` or ``stay``; equal ids of different kinds have different hashes.
    """
    person = kind.encode()
    return [
        blake2b(id_.encode(), key=secret, person=person, digest_size=_HASH_BYTES).hexdigest()
        for id_ in ids
    ]


def _make(path: Path, access: Access) -> None:
    make_private_folder(path.parent, access)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    create_private_file(partial)
    try:
        partial.write_text(f"{secrets.token_hex(SECRET_BYTES)}\n", encoding="ascii")
        grant(partial, access)
        # Of two processes that start at once, one creates the secret and the other reads it whole.
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink()
