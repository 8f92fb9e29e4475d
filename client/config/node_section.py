"""`[node]` of site.toml: the node's key, its local interface for the app, and its health."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import model_validator

from common.config.field_types import FilePath, OneOf, OptionalPath, Parsed, invalid
from common.config.strict_model import StrictModel
from common.errors import UsageError

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
        """True if only this machine reaches the address."""
        return self.host in LOOPBACK


def parse_address(text: str) -> Address:
    """Return the address that a text ``host:port`` names.

    Raises:
        UsageError: the text is not of that form.
    """
    match = _ADDRESS.fullmatch(text)
    host = (match[1] or match[2]) if match else ""
    if match is None or not _HOST.fullmatch(host) or not 1 <= int(match[3]) <= 65535:
        raise UsageError(f"must be host:port, e.g. 127.0.0.1:9094, got {text!r:.200}")
    return Address(host, int(match[3]))


AddressField = Annotated[Address, Parsed(parse_address)]


@dataclass(frozen=True)
class ClientApiTls:
    """TLS of the node's local interface.

    Attributes:
        certificate: the node's certificate, which the app's process checks.
        key: its private key, which the node alone reads.
        ca: the authority that the app's process trusts; the certificate itself if self-signed.
    """

    certificate: Path
    key: Path
    ca: Path


class NodeSection(StrictModel):
    """`[node]`: key, interfaces and isolation of the node.

    Attributes:
        key: the private key of node authentication, ECDSA P-384 in OpenSSH's format.
        isolation: ``process``: the app is a process of its own, which fetches work at
            `client_api`; ``subprocess``: the node starts it.
        client_api: the node's local interface for the app.
        client_api_certificate, client_api_key, client_api_ca: see `client_api_tls`.
        secret: a secret shared with the app's process; None where only loopback reaches it.
        health: address of the node's health service.
    """

    key: FilePath
    isolation: Annotated[str, OneOf(("process", "subprocess"))] = "process"
    client_api: AddressField = Address("127.0.0.1", 9094)
    client_api_certificate: OptionalPath = None
    client_api_key: OptionalPath = None
    client_api_ca: OptionalPath = None
    secret: OptionalPath = None
    health: AddressField = Address("127.0.0.1", 9095)

    @property
    def client_api_tls(self) -> ClientApiTls | None:
        """TLS of `client_api`; None where only loopback reaches it and nothing is encrypted."""
        certificate, key, ca = self._tls_paths()
        return ClientApiTls(certificate, key, ca) if certificate and key and ca else None

    def _tls_paths(self) -> tuple[Path | None, Path | None, Path | None]:
        return self.client_api_certificate, self.client_api_key, self.client_api_ca

    @model_validator(mode="after")
    def _check_interface(self) -> Self:
        """Refuse an interface at which others could fetch or read the app's work."""
        missing = [
            key for key, path in zip(_TLS_KEYS, self._tls_paths(), strict=True) if path is None
        ]
        if missing and len(missing) < len(_TLS_KEYS):
            raise invalid(f"is missing; {', '.join(_TLS_KEYS)} are set together", missing[0])
        address, apart = self.client_api, self.isolation == "process"
        if not address.on_loopback and not (self.secret and apart):
            raise invalid(
                f"{address} can be reached from other machines, which could fetch the app's work "
                'first; set node.secret and isolation = "process", or use 127.0.0.1',
                "client-api",
            )
        if not address.on_loopback and missing:
            raise invalid(
                f"{address} can be reached from other machines, which could read the app's "
                "requests and replies and give it another app to run on the site table; make a "
                "certificate with deploy/certs/local-api.sh and set node.client-api-certificate, "
                "client-api-key and client-api-ca, or use 127.0.0.1",
                "client-api",
            )
        if not missing and not apart:
            raise invalid(
                'is for isolation = "process"; leave it, client-api-key and client-api-ca out',
                _TLS_KEYS[0],
            )
        return self
