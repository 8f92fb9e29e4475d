"""Author's private key, with which app bundles are signed."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from common.errors import UsageError
from common.files.atomic_io import atomic_file
from common.flower.bundle_signature import AuthorKey, public_key, read_small_file

_NEW_KEY = "make one with: python -m server bundle --new-key author.key"


def new_author_key(path: Path) -> AuthorKey:
    """Write a new key pair, in the format of `ssh-keygen -t ed25519`.

    Args:
        path: file of the private key, without a passphrase and readable only by its owner; the
            public key is written to `path` and ``.pub``.

    Raises:
        UsageError: a file exists already, or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    author = public_key(key, path.stem)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = path.with_name(f"{path.name}.pub")
    for file in (path, public):
        if file.exists():
            raise UsageError(f"{file} exists; a key is never overwritten")
    try:
        for file, mode, data in (
            (path, 0o600, private),
            (public, 0o644, f"{author.text} {author.name}\n".encode()),
        ):
            with atomic_file(file) as partial:
                partial.touch(mode)
                partial.write_bytes(data)
    except BaseException as problem:
        for file in (path, public):  # half a pair would refuse the next attempt
            file.unlink(missing_ok=True)
        if isinstance(problem, OSError):
            raise UsageError(f"{path} cannot be written: {problem.strerror}") from problem
        raise
    return author


def read_private_key(path: Path, passphrase: Callable[[], str]) -> Ed25519PrivateKey:
    """Read an author's private key, in OpenSSH format or PEM (PKCS #8; also with a passphrase).

    Args:
        path: the file.
        passphrase: returns the passphrase; called if the key has one.

    Raises:
        UsageError: the file cannot be read, others can read it, it is no Ed25519 key, or the
            passphrase is wrong.
    """
    data = read_small_file(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise UsageError(f"{path} can be read by others ({mode:o}); chmod 600 {path}")
    load = load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        try:
            key = load(data, None)
        except TypeError:  # it has a passphrase
            key = load(data, passphrase().encode())
    except UnsupportedAlgorithm as problem:  # e.g. OpenSSH's passphrases need bcrypt
        raise UsageError(
            f"{path} cannot be read here ({problem}); a key with a passphrase can be made with: "
            "openssl genpkey -algorithm ed25519 -aes256 -out author.key"
        ) from None
    except (ValueError, TypeError):
        raise UsageError(
            f"{path} is no private key, is damaged, or the passphrase is wrong; {_NEW_KEY}"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is no Ed25519 key; {_NEW_KEY}")
    return key
