from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import UsageError
from server.deployment.server_config import PROJECT, read_server_config

TLS = '[tls]\ncertificate = "tls.crt"\nkey = "tls.key"\nca = "ca.crt"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / name).touch()
    return tmp_path / "server.toml"


def test_what_is_not_said_has_a_default(file: Path, tmp_path: Path) -> None:
    file.write_text(TLS)
    config = read_server_config(file)
    assert config.address == "127.0.0.1:8000"
    assert config.app == PROJECT
    assert config.state == tmp_path / "fedvitals-home" / "server"
    assert config.certificate == tmp_path / "tls.crt"


def test_paths_are_meant_from_the_files_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(f'[server]\nstate = "state"\n{TLS}')
    monkeypatch.chdir("/")
    assert read_server_config(file).state == tmp_path / "state"


@pytest.mark.parametrize(
    "address", ["0.0.0.0:8000", "10.0.0.1:8000", "coordinator.example.org:8000", "[::]:8000"]
)
@pytest.mark.parametrize("key", ["address", "health", "superexec-health"])
def test_an_address_that_others_reach_is_refused(file: Path, key: str, address: str) -> None:
    file.write_text(f'[server]\n{key} = "{address}"\n{TLS}')
    with pytest.raises(UsageError, match=rf"server\.{key}"):
        read_server_config(file)


@pytest.mark.parametrize("address", ["localhost:8000", "127.0.0.2:9", "[::1]:8000"])
def test_loopback_is_fine(file: Path, address: str) -> None:
    file.write_text(f'[server]\naddress = "{address}"\n{TLS}')
    assert read_server_config(file).address == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server", "is not TOML"),
        (f'[server]\nadress = "127.0.0.1:1"\n{TLS}', "adress.*did you mean.*address"),
        (f"[servers]\n{TLS}", "servers.*did you mean.*server"),
        (f"[server]\naddress = 8000\n{TLS}", 'server.address must be a text in "quotes", got 8000'),
        (f'[server]\naddress = "127.0.0.1"\n{TLS}', "must be HOST:PORT"),
        (f'[server]\naddress = "127.0.0.1:70000"\n{TLS}', r"server\.address is 127"),
        (f'[server]\napp = "."\n{TLS}', "holds no pyproject.toml"),
        ("server = 1\n", r"server must be a table \[server\]"),
        (TLS.replace("ca.crt", "other.crt"), r"tls\.ca names .*other\.crt, which does not exist"),
        (TLS.replace("ca.crt", "x" * 300), r"tls\.ca names .*x, which does not exist"),
        (f'[server]\napp = "{"x" * 300}"\n{TLS}', r"server\.app is .*x, which holds no pyproject"),
        (TLS.replace('key = "tls.key"\n', ""), r"tls\.key is missing"),
    ],
)
def test_what_is_wrong_is_said(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_server_config(file)


def test_an_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give the file with --config"):
        read_server_config(tmp_path / "absent.toml")
