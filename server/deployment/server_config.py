"""`server.toml`: addresses of the coordinator's services, and the paths of its keys and state."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, model_validator

from common.config.field_types import FilePath, OptionalPath, Parsed, invalid
from common.config.strict_model import StrictModel, flatten
from common.config.toml import read_toml
from common.errors import UsageError
from common.files.paths import home

PROJECT = Path(__file__).resolve().parents[2]
"""Folder of this code; the sites get it where `server.app` names no other."""


def _loopback(text: str) -> str:
    """Return an address that no other machine reaches.

    The control API shares the port with the fleet API. It requires an operator's credential, but
    who cannot reach it cannot try.
    """
    host, _, port = text.rpartition(":")
    try:
        number = int(port)
        local = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        raise UsageError(f"must be HOST:PORT, got {text!r}") from None
    if not local or not 0 < number < 65536:
        raise UsageError(
            f"is {text}, but the SuperLink's control API can start runs at every site; keep it on "
            "127.0.0.1 and let the reverse proxy face the sites"
        )
    return text


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # e.g. of a name that is too long
        return False


def _existing(path: Path) -> Path:
    if not _is_file(path):
        raise invalid(f"names {path}, which does not exist")
    return path


_Loopback = Annotated[str, Parsed(_loopback)]
_ExistingFile = Annotated[FilePath, AfterValidator(_existing)]


class ServerConfig(StrictModel):
    """The coordinator's own settings; a run's settings are `common.config.run_config.RunConfig`.

    Attributes:
        address: where the SuperLink listens, on loopback.
        health: of the SuperLink's gRPC health service, on loopback.
        superexec_health: of the SuperExec's.
        certificate: the SuperLink's certificate, PEM.
        key: its private key.
        ca: the certificate authority that signed it.
    """

    address: _Loopback = Field(default="127.0.0.1:8000", alias="server.address")
    health: _Loopback = Field(default="127.0.0.1:9190", alias="server.health")
    superexec_health: _Loopback = Field(default="127.0.0.1:9191", alias="server.superexec-health")
    given_state: OptionalPath = Field(default=None, alias="server.state")
    given_app: OptionalPath = Field(default=None, alias="server.app")
    certificate: _ExistingFile = Field(alias="tls.certificate")
    key: _ExistingFile = Field(alias="tls.key")
    ca: _ExistingFile = Field(alias="tls.ca")

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        return flatten(values, ("server", "tls"))

    @model_validator(mode="after")
    def _check_app(self) -> Self:
        if not _is_file(self.app / "pyproject.toml"):
            raise invalid(
                f"is {self.app}, which holds no pyproject.toml; name the project's folder",
                "server.app",
            )
        return self

    @property
    def state(self) -> Path:
        """Folder of the database, the secret, the sites' keys and the logs."""
        return self.given_state or home() / "server"

    @property
    def app(self) -> Path:
        """The project's folder, from which Flower makes the bundle that the sites approve."""
        return self.given_app or PROJECT

    @property
    def flower_home(self) -> Path:
        """Flower's own folder: its connections and the apps that it unpacks."""
        return self.state / "flower"


def read_server_config(path: Path) -> ServerConfig:
    """Read `server.toml`; relative paths in it are relative to its own folder.

    Raises:
        UsageError: the file cannot be read, a key is unknown or missing, a file that it names does
            not exist, or an address is not on loopback.
    """
    try:
        values = read_toml(path, UsageError)
    except UsageError as error:
        hint = "; give the file with --config" if isinstance(error.__cause__, OSError) else ""
        raise UsageError(f"{error}{hint}") from error
    return ServerConfig.load(values, UsageError, str(path), path.absolute().parent)
