"""`[node]` of site.toml: the node's key, its local interface for the app, and its health."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from common.config.toml import TomlTable

ISOLATIONS = ("process", "subprocess")
LOOPBACK = ("127.0.0.1", "localhost", "::1")

_TLS_KEYS = ("client-api-certificate", "client-api-key", "client-api-ca")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|[0-9A-Fa-f:]{2,45}")
_ADDRESS = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:]+)):([0-9]{1,5})")


@dataclass(frozen=True)
class Address:
    """A host, by name or number, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in LOOPBACK


@dataclass(frozen=True)
class ClientApiTls:
    """TLS of the node's local interface.

    Attributes:
        certificate: what the node shows the app's process.
        key: its private key, which the node alone reads.
        ca: by whom the app's process wants it signed; the certificate itself, where it is its own.
    """

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class NodeSection:
    """`[node]`: how the node runs.

    Attributes:
        key: the private key of node authentication, ECDSA P-384 in OpenSSH's format.
        isolation: ``process``: the app is a process of its own, which asks for work at
            `client_api`; ``subprocess``: the node starts it.
        client_api: the node's local interface for the app.
        secret: a secret that the app's process shares; None where only loopback reaches it.
        health: where the node's health is asked for.
        client_api_tls: None where only loopback reaches it and nothing is encrypted.
    """

    key: Path
    isolation: str
    client_api: Address
    secret: Path | None
    health: Address
    client_api_tls: ClientApiTls | None = None


def read_node_section(table: TomlTable, base: Path) -> NodeSection:
    """Read `[node]` of site.toml; its paths are meant from a folder."""
    table.only(("key", "isolation", "client-api", *_TLS_KEYS, "secret", "health"))
    isolation = table.text("isolation", "process")
    if isolation not in ISOLATIONS:
        raise table.wrong("isolation", f"must be {' or '.join(ISOLATIONS)}, got {isolation!r}")
    secret = table.text("secret", "")
    section = NodeSection(
        key=base / table.text("key"),
        isolation=isolation,
        client_api=read_address(table, "client-api", "127.0.0.1:9094"),
        secret=base / secret if secret else None,
        health=read_address(table, "health", "127.0.0.1:9095"),
        client_api_tls=_client_api_tls(table, base),
    )
    _check_interface(table, section)
    return section


def _check_interface(table: TomlTable, node: NodeSection) -> None:
    """Refuse an interface that gives away the app's work, to those who ask or those who listen."""
    address, apart = node.client_api, node.isolation == "process"
    if not address.on_loopback and not (node.secret and apart):
        raise table.wrong(
            "client-api",
            f"{address} can be reached from other machines, and whoever asks first would get "
            'the app\'s work; set node.secret and isolation = "process", or use 127.0.0.1',
        )
    if not address.on_loopback and node.client_api_tls is None:
        raise table.wrong(
            "client-api",
            f"{address} can be reached from other machines, which could read what the app is "
            "given and answers, and hand it another app to run on the site table; make a "
            "certificate with deploy/certs/local-api.sh and set node.client-api-certificate, "
            "client-api-key and client-api-ca, or use 127.0.0.1",
        )
    if node.client_api_tls is not None and not apart:
        raise table.wrong(
            "client-api-certificate",
            'is for isolation = "process"; leave it, client-api-key and client-api-ca out',
        )


def _client_api_tls(table: TomlTable, base: Path) -> ClientApiTls | None:
    given = {key: table.text(key, "") for key in _TLS_KEYS}
    missing = [key for key, path in given.items() if not path]
    if len(missing) == len(given):
        return None
    if missing:
        raise table.wrong(missing[0], f"is missing; {', '.join(_TLS_KEYS)} are set together")
    certificate, key, ca = (base / path for path in given.values())
    return ClientApiTls(certificate, key, ca)


def read_address(table: TomlTable, key: str, default: str | None) -> Address:
    """Read a host and a port, written as ``host:port``."""
    text = table.text(key, default)
    match = _ADDRESS.fullmatch(text)
    host = (match[1] or match[2]) if match else ""
    if match is None or not _HOST.fullmatch(host) or not 1 <= int(match[3]) <= 65535:
        raise table.wrong(key, f"must be host:port, e.g. 127.0.0.1:9094, got {text!r}")
    return Address(host, int(match[3]))
