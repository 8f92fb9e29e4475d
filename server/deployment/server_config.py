"""`server.toml`: where the coordinator's services listen, and where their keys and state lie."""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UsageError
from common.names import check_name
from common.paths import home

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of this very code, which is what the sites get where no other is named."""

_SECTIONS: dict[str, tuple[str, ...]] = {
    "server": ("address", "health", "superexec-health", "state", "app"),
    "tls": ("certificate", "key", "ca"),
}
_HEALTH = "127.0.0.1:9190"
_SUPEREXEC_HEALTH = "127.0.0.1:9191"


@dataclass(frozen=True)
class ServerConfig:
    """The coordinator's own settings; a run's settings are `common.config.run_config.RunConfig`.

    Attributes:
        address: where the SuperLink listens, on loopback.
        health: of the SuperLink's gRPC health service, on loopback.
        superexec_health: of the SuperExec's.
        state: folder of the database, the secret, the sites' keys and the logs.
        app: the project's folder, from which Flower makes the bundle that the sites approve.
        certificate: the SuperLink's certificate, PEM.
        key: its private key.
        ca: the certificate authority that signed it.
    """

    address: str
    health: str
    superexec_health: str
    state: Path
    app: Path
    certificate: Path
    key: Path
    ca: Path

    @property
    def flower_home(self) -> Path:
        """Flower's own folder: its connections and the apps that it unpacks."""
        return self.state / "flower"


def read_server_config(path: Path) -> ServerConfig:
    """Read `server.toml`; relative paths in it are relative to its own folder.

    Raises:
        UsageError: where the file cannot be read, a key is unknown or absent, a file that it names
            is not there, or an address is not on loopback.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read ({error.strerror or error}); give it with --config"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    _check_keys(path, given)
    server, tls = given.get("server", {}), given.get("tls", {})
    folder = path.absolute().parent
    state = server.get("state", "")
    config = ServerConfig(
        address=_loopback(path, "address", server.get("address", "127.0.0.1:8000")),
        health=_loopback(path, "health", server.get("health", _HEALTH)),
        superexec_health=_loopback(
            path, "superexec-health", server.get("superexec-health", _SUPEREXEC_HEALTH)
        ),
        state=folder / state if state else home() / "server",
        app=folder / server["app"] if server.get("app") else PROJECT,
        certificate=_file(path, folder, tls, "certificate"),
        key=_file(path, folder, tls, "key"),
        ca=_file(path, folder, tls, "ca"),
    )
    if not (config.app / "pyproject.toml").is_file():
        raise UsageError(
            f"{config.app} holds no pyproject.toml; set server.app in {path} to the "
            "project's folder"
        )
    return config


def _check_keys(path: Path, given: dict[str, Any]) -> None:
    for section, values in given.items():
        check_name(f"section in {path}", section, tuple(_SECTIONS))
        if not isinstance(values, dict):
            raise UsageError(f"{path}: {section} is to be a section, written [{section}]")
        for key, value in values.items():
            check_name(f"key in [{section}] of {path}", key, _SECTIONS[section])
            if not isinstance(value, str):
                raise UsageError(f"{path}: {section}.{key} is to be text, got {value!r}")


def _loopback(path: Path, key: str, text: str) -> str:
    """Return an address that no other machine reaches.

    The control API shares the port with the fleet API. It asks for an operator's credential, but
    who cannot reach it cannot try.
    """
    host, _, port = text.rpartition(":")
    try:
        number = int(port)
        local = host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        raise UsageError(f"{path}: server.{key} is to be HOST:PORT, got {text!r}") from None
    if not local or not 0 < number < 65536:
        raise UsageError(
            f"{path}: server.{key} is {text}, but the SuperLink's control API can start runs at "
            "every site; keep it on 127.0.0.1 and let the reverse proxy face the sites"
        )
    return text


def _file(path: Path, folder: Path, tls: dict[str, str], key: str) -> Path:
    if not tls.get(key):
        raise UsageError(f"{path} has no tls.{key}; name the file that deploy/certs made")
    file = folder / tls[key]
    if not file.is_file():
        raise UsageError(f"{path}: tls.{key} names {file}, which is not there")
    return file
