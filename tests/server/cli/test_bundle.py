from __future__ import annotations

import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

import server.cli.bundle as command
from common.console import run
from common.flower.bundle_signature import parse_author_key, read_signature
from server.cli import app
from tests.client.policy.bundle_files import make_bundle

NAME = "us/app 1.0"


class Builder:
    """Replacement for Flower, which takes seconds to build."""

    def build(self, app: Path, folder: Path) -> Path:
        return make_bundle(folder, **{"client/app/client_app.py": "app = 1\n"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "connect", lambda *_: Builder())
    return tmp_path


def build(folder: Path, *arguments: str) -> int:
    return run(app, ["bundle", "--out", str(folder / "app.fab"), *arguments])


def ssh_keygen(key: Path, *arguments: str) -> None:
    done = ["ssh-keygen", "-q", "-N", "", "-C", "us", "-f", str(key), *arguments]
    subprocess.run(done, check=True, stdin=subprocess.DEVNULL)


def test_a_new_key_signs_a_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = folder / "author.key"
    assert run(app, ["bundle", "--new-key", str(key)]) == 0
    public = (folder / "author.key.pub").read_text()
    assert public.strip() in capsys.readouterr().out
    assert key.stat().st_mode & 0o777 == 0o600
    assert not (folder / "app.fab").exists()
    assert run(app, ["bundle", "--new-key", str(key)]) == 2
    assert "exists; a key is never overwritten" in capsys.readouterr().err
    key.with_name("other.key.pub").write_text("")
    assert run(app, ["bundle", "--new-key", str(folder / "other.key")]) == 2
    assert not (folder / "other.key").exists()
    capsys.readouterr()

    assert build(folder, "--sign", str(key)) == 0
    said = capsys.readouterr().out
    digest = hashlib.sha256((folder / "app.fab").read_bytes()).hexdigest()
    assert digest in said
    signature = read_signature(folder / "app.fab.sig")
    signature.check(digest, NAME)
    assert signature.author == parse_author_key(public)
    assert f"signed {NAME} with {signature.author.fingerprint}" in said


def test_without_a_key_nothing_is_signed(folder: Path) -> None:
    assert build(folder) == 0
    assert [path.name for path in folder.iterdir() if path.suffix == ".sig"] == []


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not here")
def test_a_key_of_ssh_keygen_signs_and_has_its_fingerprint(folder: Path) -> None:
    key = folder / "author"
    ssh_keygen(key, "-t", "ed25519")
    assert build(folder, "--sign", str(key)) == 0
    author = read_signature(folder / "app.fab.sig").author
    listed = subprocess.run(["ssh-keygen", "-l", "-f", key], check=True, capture_output=True)
    assert author.fingerprint in listed.stdout.decode()
    assert parse_author_key(key.with_name("author.pub").read_text()).raw == author.raw


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
def test_a_passphrase_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, given = folder / "author.key", ["wrong", "right"]
    made = ["openssl", "genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:right"]
    subprocess.run([*made, "-out", str(key)], check=True, capture_output=True)
    key.chmod(0o600)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: given.pop(0))
    assert build(folder, "--sign", str(key)) == 2
    assert "the passphrase is wrong" in capsys.readouterr().err
    assert build(folder, "--sign", str(key)) == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not here")
def test_a_pem_key_signs_too(folder: Path) -> None:
    key = folder / "author.pem"
    made = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(key)]
    subprocess.run(made, check=True, capture_output=True)
    key.chmod(0o600)
    assert build(folder, "--sign", str(key)) == 0
    assert read_signature(folder / "app.fab.sig").name == NAME


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        (None, 0, "cannot be read"),
        (b"", 0o600, "is no private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", 0o600, "is no private key"),
        (b"ecdsa", 0o600, "is no Ed25519 key"),
        (b"ed25519", 0o640, "can be read by others (640); chmod 600"),
    ],
)
def test_what_cannot_sign_is_refused_before_anything_is_built(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    mode: int,
    message: str,
) -> None:
    key = folder / "author.key"
    if content in (b"ecdsa", b"ed25519"):
        ssh_keygen(key, "-t", content.decode())
    elif content is not None:
        key.write_bytes(content)
    if content is not None:
        key.chmod(mode)
    assert build(folder, "--sign", str(key)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "app.fab").exists()


def _written(path: Path) -> tuple[int, int, int]:
    """Identity, size and time of writing; reading changes the time of access."""
    state = path.lstat()
    return state.st_ino, state.st_size, state.st_mtime_ns


@pytest.mark.parametrize("name", ["app.fab", "app.fab.sig"])
@pytest.mark.parametrize("kind", ["text", "archive", "folder", "link"])
def test_a_file_that_is_no_bundle_is_not_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    """Before: any file was replaced without a word."""
    path = folder / name
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/dev/null")
    elif kind == "archive":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("theirs.txt", "theirs")
    else:
        path.write_text("theirs")
    before = _written(path)
    assert build(folder) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error
    assert _written(path) == before
    assert [one.name for one in folder.iterdir()] == [name]


def test_a_bundle_replaces_a_bundle_and_its_signature(folder: Path) -> None:
    key = folder / "author.key"
    assert run(app, ["bundle", "--new-key", str(key)]) == 0
    for signed in (True, True, False):
        assert build(folder, *(["--sign", str(key)] if signed else [])) == 0
        assert (folder / "app.fab.sig").exists() is signed
