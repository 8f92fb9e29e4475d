"""Register of the sites' public keys, by site name.

STATE/sites/<name>.pub             keys of the sites that may join
STATE/nodes.json                   Flower's id of each registered node, by its key's fingerprint
STATE/revoked/<name>.<number>.pub  revoked keys, which cannot be registered again
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from common.errors import UsageError
from common.files.atomic_io import write_text
from common.names import check_name, check_site_name
from server.deployment.flwr_subprocess import Flower

NODE_KEY_TYPE = "ecdsa-sha2-nistp384"
GONE = "unregistered"
_KEY = re.compile(r"(\S+) ([A-Za-z0-9+/=]+)(?: .*)?")


@dataclass(frozen=True)
class SiteKey:
    """A site's public node key.

    Attributes:
        text: ``<type> <base64>``, without the comment, which is not verified.
        fingerprint: ``SHA256:…`` as `ssh-keygen -l` shows it.
    """

    text: str
    fingerprint: str


class SiteKeys:
    """The keys in a state folder.

    Args:
        state: the folder of the services' state.
        flower: client of the SuperLink; None if it is not running: changes then take effect at its
            next start.
    """

    def __init__(self, state: Path, flower: Flower | None) -> None:
        self._keys = state / "sites"
        self._revoked = state / "revoked"
        self._nodes = state / "nodes.json"
        self._flower = flower

    def names(self) -> list[str]:
        """The names of all sites that may join."""
        return sorted(path.stem for path in self._keys.glob("*.pub"))

    def key(self, name: str) -> SiteKey:
        """Return a site's key."""
        check_name("site", name, self.names())
        return read_key(self._path(name))

    def add(self, name: str, file: Path, *, replace: bool = False) -> SiteKey:
        """Register a site's key.

        Args:
            name: the site's name.
            file: its public key, made by `deploy/certs/request.sh`.
            replace: revoke the site's present key.

        Raises:
            UsageError: the name or the key is invalid, taken, or revoked.
        """
        check_site_name(name)
        key = read_key(file)
        self._refuse_known(file, key)
        if name in self.names():
            if not replace:
                raise UsageError(
                    f"{name} has the key {self.key(name).fingerprint}; give --replace to revoke it "
                    "and register the new one"
                )
            self._revoke(name)
        write_text(self._path(name), f"{key.text} {name}\n")
        self.sync()
        return key

    def remove(self, name: str) -> SiteKey:
        """Revoke a site's key: its node is refused at once, also under another name."""
        key = self.key(name)
        self._revoke(name)
        self.sync()
        return key

    def sync(self, report: Callable[[str], None] = lambda _: None) -> None:
        """Register exactly these keys with the SuperLink, after a change or a start.

        Args:
            report: called with a line for each change.
        """
        if self._flower is None:
            return
        known, nodes = self._flower.nodes(), self._read_nodes()
        keys = {self.key(name).fingerprint: name for name in self.names()}
        for fingerprint, node in list(nodes.items()):
            present = known.get(node, GONE) != GONE
            if present and fingerprint not in keys:
                self._flower.unregister(node)
                report(f"unregistered {fingerprint}")
            if not present or fingerprint not in keys:
                del nodes[fingerprint]
                self._write_nodes(nodes)
        for fingerprint, name in keys.items():
            if fingerprint not in nodes:
                nodes[fingerprint] = self._flower.register(self._path(name), name)
                self._write_nodes(nodes)
                report(f"registered {name} {fingerprint}")

    def statuses(self) -> dict[str, str]:
        """Return each site's status by name, as `Flower.nodes` gives it."""
        known = self._flower.nodes() if self._flower else {}
        nodes = self._read_nodes()
        return {
            name: known.get(nodes.get(self.key(name).fingerprint, ""), GONE)
            for name in self.names()
        }

    def _refuse_known(self, file: Path, key: SiteKey) -> None:
        """Raise `UsageError` if the key is another site's, or revoked."""
        for other in self.names():
            if self.key(other).fingerprint == key.fingerprint:
                raise UsageError(
                    f"{file} is already the key of {other}; each site needs a key of its own"
                )
        for old in sorted(self._revoked.glob("*.pub")):
            if read_key(old).fingerprint == key.fingerprint:
                raise UsageError(
                    f"{file} was revoked ({old.name}); let the site make a new key with "
                    "deploy/certs/request.sh"
                )

    def _revoke(self, name: str) -> None:
        number = len(list(self._revoked.glob(f"{name}.*.pub"))) + 1
        self._revoked.mkdir(parents=True, exist_ok=True)
        self._path(name).replace(self._revoked / f"{name}.{number}.pub")

    def _path(self, name: str) -> Path:
        return self._keys / f"{name}.pub"

    def _read_nodes(self) -> dict[str, str]:
        """Return Flower's ids of the registered nodes, by the fingerprint of their key."""
        if not self._nodes.is_file():
            return {}
        nodes: dict[str, str] = json.loads(self._nodes.read_text(encoding="utf-8"))
        return nodes

    def _write_nodes(self, nodes: dict[str, str]) -> None:
        write_text(self._nodes, json.dumps(nodes, indent=1, sort_keys=True) + "\n")


def read_key(file: Path) -> SiteKey:
    """Read the public key of a node.

    Raises:
        UsageError: the file holds something else, e.g. a private key.
    """
    remedy = "the site makes one with deploy/certs/request.sh and sends the file node.pub"
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise UsageError(f"{file} cannot be read as a key; {remedy}") from None
    if "PRIVATE KEY" in text:
        raise UsageError(
            f"{file} is a PRIVATE key, which must never leave its site; let the site make a "
            "new one and send node.pub only"
        )
    match = _KEY.fullmatch(text)
    if match is None or match[1] != NODE_KEY_TYPE:
        raise UsageError(f"{file} is no public key of type {NODE_KEY_TYPE}; {remedy}")
    try:
        blob = base64.b64decode(match[2], validate=True)
        # With Flower's own parser: a key that it rejects would prevent the services' start.
        load_ssh_public_key(f"{match[1]} {match[2]}".encode())
    except (ValueError, NotImplementedError, UnsupportedAlgorithm):  # a binascii.Error is the first
        raise UsageError(f"{file} is a damaged public key; {remedy}") from None
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return SiteKey(f"{match[1]} {match[2]}", f"SHA256:{digest}")
