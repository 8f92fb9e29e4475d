"""Author's signature of an app bundle: Ed25519, over the bundle's digest and its name.

The digest identifies the bytes that may run; the signature identifies their author. Signed is

    "fedvitals-bundle-v1" NUL <SHA-256 of the bundle, 64 hex digits> <name, UTF-8>

The prefix separates these signatures from those of other protocols (`ssh-keygen -Y sign`, for
instance, uses "SSHSIG"). The signature of `app.fab` is the file `app.fab.sig`, one line of JSON. Of
that line only the signature itself is trusted: digest and name are taken from the bundle, and the
policy lists the keys of its authors.

Source: RFC 8032 (Ed25519), RFC 8709 (its keys in OpenSSH's format); for the rejected keys,
Chalkias, Garillot and Nikolaenko, https://eprint.iacr.org/2020/1244.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from common.errors import UsageError
from common.files.atomic_io import write_text

DOMAIN = b"fedvitals-bundle-v1\0"
AUTHOR_KEY_TYPE = "ssh-ed25519"
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_KEY_FILE_BYTES = 2**14
"""Larger than any key or signature file."""

_BLOB_START = b"\0\0\0\x0b" + AUTHOR_KEY_TYPE.encode() + b"\0\0\0 "
_PRIME = 2**255 - 19
_SMALL_ORDER = frozenset(
    {
        *(0, 1, _PRIME - 1),
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
    }
)
"""The y of the eight points whose order divides 8: anyone can sign for such a key."""
_FIELDS = {"author", "bundle", "name", "signature"}


@dataclass(frozen=True)
class AuthorKey:
    """An author's public key.

    Attributes:
        raw: the 32 bytes of RFC 8032.
        name: the comment behind it, which is not verified; empty if there is none.
    """

    raw: bytes
    name: str = ""

    @property
    def text(self) -> str:
        """The key as `ssh-keygen` writes it, without its comment."""
        return f"{AUTHOR_KEY_TYPE} {base64.b64encode(_BLOB_START + self.raw).decode()}"

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` as `ssh-keygen -l` shows it."""
        digest = hashlib.sha256(_BLOB_START + self.raw).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"

    def signed(self, signature: bytes, sha256: str, name: str) -> bool:
        """Return whether this key signed a bundle.

        Args:
            signature: the 64 bytes of RFC 8032.
            sha256: digest of the bundle, in hex.
            name: the bundle's own name: publisher, name and version.
        """
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, _message(sha256, name))
        except (InvalidSignature, ValueError):
            return False
        return True


@dataclass(frozen=True)
class BundleSignature:
    """Contents of a signature file, unverified.

    Attributes:
        author: stated author.
        sha256: stated digest of the bundle.
        name: stated name of the bundle.
        signature: 64 bytes.
    """

    author: AuthorKey
    sha256: str
    name: str
    signature: bytes

    def check(self, sha256: str, name: str) -> None:
        """Verify that the stated author signed this bundle.

        Args:
            sha256: digest of the bundle, in hex.
            name: the bundle's own name.

        Raises:
            UsageError: the signature is of another bundle, or not by that author.
        """
        if self.sha256 != sha256:
            raise UsageError(
                f"the signature is for another bundle, {self.sha256[:12]!a}, and this one is "
                f"{sha256[:12]}; ask its author for the signature of this one"
            )
        if self.name != name:
            raise UsageError(
                f"the signature is for the name {self.name!a}, and the bundle calls itself "
                f"{name!a}; ask its author for the signature of this one"
            )
        if not self.author.signed(self.signature, sha256, name):
            raise UsageError(
                f"the signature is not by the key {self.author.fingerprint} that it names; "
                "ask the author for the file again"
            )


def public_key(key: Ed25519PrivateKey, name: str) -> AuthorKey:
    """Return the public half of a private key, under a name."""
    return AuthorKey(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), name)


def parse_author_key(text: str) -> AuthorKey:
    """Read a public key.

    Args:
        text: ``ssh-ed25519 <base64> <name>`` as in a .pub file, or the 32 bytes in base64.

    Raises:
        UsageError: the text is something else.
    """
    if "PRIVATE KEY" in text:
        raise UsageError("this is a PRIVATE key, which stays with its author; give the .pub file's")
    words = text.split(maxsplit=2)
    if len(words) == 1:
        raw = _decoded(words[0])
    elif len(words) > 1 and words[0] == AUTHOR_KEY_TYPE:
        blob = _decoded(words[1])
        raw = blob[len(_BLOB_START) :] if blob and blob.startswith(_BLOB_START) else None
    else:
        raw = None
    name = words[2].strip() if len(words) == 3 else ""
    if raw is None or len(raw) != KEY_BYTES or not name.isprintable():
        raise UsageError(
            f"{text[:40]!a} is no Ed25519 public key; give the line of a .pub file, "
            f'"{AUTHOR_KEY_TYPE} AAAA… name", or its 32 bytes in base64'
        )
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _PRIME or y in _SMALL_ORDER:
        raise UsageError(f"{text[:40]!a} is a key that anyone can sign for; make another one")
    return AuthorKey(raw, name)


def parse_signature(text: str) -> bytes:
    """Read the 64 bytes of a signature from base64.

    Raises:
        UsageError: the text is something else.
    """
    signature = _decoded(text.strip())
    if signature is None or len(signature) != SIGNATURE_BYTES:
        raise UsageError(
            f"{text[:40]!a} is no Ed25519 signature: it has {SIGNATURE_BYTES} bytes, in base64"
        )
    return signature


def sign_bundle(sha256: str, name: str, key: Ed25519PrivateKey, author: str) -> BundleSignature:
    """Sign a bundle.

    Args:
        sha256: digest of the bundle, in hex.
        name: the bundle's own name.
        key: the author's private key.
        author: the author's name, for display.
    """
    return BundleSignature(public_key(key, author), sha256, name, key.sign(_message(sha256, name)))


def bundle_name(project: Mapping[str, Any]) -> str:
    """Return a bundle's own name: publisher, name and version of its pyproject.toml.

    Raises:
        KeyError: one of them is missing.
        TypeError: one of them is not in a table.
    """
    app, about = project["tool"]["flwr"]["app"], project["project"]
    return f"{app['publisher']}/{about['name']} {about['version']}"


def signature_path(bundle: Path) -> Path:
    """Return the path of a bundle's signature: the bundle's path and ``.sig``."""
    return bundle.with_name(f"{bundle.name}.sig")


def write_signature(signature: BundleSignature, path: Path) -> None:
    """Write a signature file, whole or not at all."""
    author = signature.author
    line = {
        "bundle": signature.sha256,
        "name": signature.name,
        "author": f"{author.text} {author.name}".rstrip(),
        "signature": base64.b64encode(signature.signature).decode(),
    }
    write_text(path, json.dumps(line, ensure_ascii=False) + "\n")


def read_signature(path: Path) -> BundleSignature:
    """Read a signature file; `BundleSignature.check` verifies it.

    Raises:
        UsageError: the file cannot be read, or is no signature file.
    """
    try:
        line = json.loads(read_small_file(path).decode())
    except (ValueError, RecursionError):
        line = None
    if (
        not isinstance(line, dict)
        or line.keys() != _FIELDS
        or not all(isinstance(value, str) for value in line.values())
    ):
        raise UsageError(f"{path} is no signature file of `python -m server bundle --sign`")
    try:
        author = parse_author_key(line["author"])
        return BundleSignature(
            author, line["bundle"], line["name"], parse_signature(line["signature"])
        )
    except UsageError as problem:
        raise UsageError(f"{path}: {problem}") from None


def read_small_file(path: Path) -> bytes:
    """Read the file of a key or a signature.

    Raises:
        UsageError: the file cannot be read, or is larger than any such file.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_FILE_BYTES + 1)
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror}") from problem
    if len(data) > MAX_KEY_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_KEY_FILE_BYTES} bytes; is it the right file?")
    return data


def _message(sha256: str, name: str) -> bytes:
    # The digest has a fixed length: no name can be read as part of it.
    if len(sha256) != 64:
        raise ValueError(f"a SHA-256 has 64 hex digits, got {sha256!r}")
    return DOMAIN + sha256.encode() + name.encode()


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
