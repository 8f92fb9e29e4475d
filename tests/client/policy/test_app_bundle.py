from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from client.cli import app as commands
from client.policy import app_bundle
from client.policy.app_bundle import read_bundle, unpack_bundle
from common.console import run
from common.errors import UsageError
from tests.client.policy.bundle_files import PROJECT, make_bundle

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text((REPOSITORY / "deploy" / "site" / "policy.toml").read_text())
    path.chmod(0o640)
    return path


def test_a_bundle_tells_what_is_in_it(tmp_path: Path) -> None:
    bundle = read_bundle(make_bundle(tmp_path, **{"client/app/client_app.py": "app = 1\n"}))
    assert bundle.name == "us/app 1.0"
    assert bundle.client_app == "client.app.client_app:app"
    assert [file.path for file in bundle.files] == ["client/app/client_app.py", "pyproject.toml"]
    assert bundle.remarks == ()


def test_what_should_be_looked_at_is_remarked(tmp_path: Path) -> None:
    odd: dict[str, str | bytes] = {
        "weights.bin": b"\0",
        "../evil.py": "",
        "/abs.py": "",
        "a\\b.py": "",
    }
    remarks = read_bundle(make_bundle(tmp_path, **odd)).remarks
    assert "weights.bin: neither Python nor text" in remarks
    assert sum("leads out" in remark for remark in remarks) == 3


@pytest.mark.parametrize(
    ("files", "remark"),
    [
        ({"cli\u0435nt/app/client_app.py": ""}, "letters that may look like others, 'cli\\u0435nt"),
        ({"client/app/client_app\u0301.py": ""}, "letters that may look like others"),
        ({"./client/app/client_app.py": ""}, "same file as ./client/app/client_app.py"),
        ({"client//app/client_app.py": ""}, "same file as client//app/client_app.py"),
        ({"Client/app/client_app.py": ""}, "same file as Client/app/client_app.py"),
        ({"client/payload": b"\x7fELF\0\xff"}, "client/payload: neither Python nor text"),
        ({"client/data.json": b"PK\x03\x04"}, "client/data.json: neither Python nor text"),
        ({"client/app/cursor.py": b"#\x1b[2K"}, "cursor.py: neither Python nor text"),
    ],
)
def test_a_file_that_hides_among_others_is_remarked(
    tmp_path: Path, files: dict[str, str | bytes], remark: str
) -> None:
    bundle = read_bundle(
        make_bundle(tmp_path, **{"client/app/client_app.py": "app = 1\n"}, **files)
    )
    assert [remark in one for one in bundle.remarks] == [True]


def test_an_app_from_outside_the_bundle_is_remarked(tmp_path: Path) -> None:
    other = PROJECT.replace("client.app.client_app:app", "os:system")
    remarks = read_bundle(make_bundle(tmp_path, other)).remarks
    assert remarks == ("os:system: this module is not in the bundle",)


@pytest.mark.parametrize(
    ("project", "files"),
    [
        (PROJECT, {"x" * 300: ""}),
        (PROJECT, {"x" + " " * 60 + "changes: none.md": ""}),
        (PROJECT.replace('"app"', '"app 1.0, approved by A. Meyer"'), {}),
        (PROJECT.replace('"us"', '"[red]us[/red]"'), {}),
        (PROJECT.replace('"us"', '"\u0443s"'), {}),
        (PROJECT.replace('"1.0"', "[1, 0]"), {}),
        (PROJECT.replace("client_app:app", "client_app:app, and no other"), {}),
    ],
)
def test_a_name_that_imitates_the_summary_is_refused(
    tmp_path: Path, project: str, files: dict[str, str | bytes]
) -> None:
    with pytest.raises(UsageError, match=r"holds a name of|accepts as a name|no module:object"):
        read_bundle(make_bundle(tmp_path, project, **files))


@pytest.mark.parametrize("sign", ["\x1b[2K\x1b[1A", "\r", "\n", "\x9b2J", "\u202e", "\u200b"])
@pytest.mark.parametrize("where", ["file", "publisher", "version", "clientapp"])
def test_a_name_that_would_change_what_is_shown_is_refused(
    tmp_path: Path, policy: Path, capsys: pytest.CaptureFixture[str], sign: str, where: str
) -> None:
    quoted, project = json.dumps(f"x{sign}y"), PROJECT
    if where != "file":
        project, count = re.subn(f"{where} = .*", lambda _: f"{where} = {quoted}", PROJECT)
        assert count == 1
    path = make_bundle(tmp_path, project, **({f"x{sign}y.py": ""} if where == "file" else {}))
    assert run(commands, ["approve", str(path), "--policy", str(policy), "--yes"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "holds a name with control characters" in said.err
    assert said.err.rstrip("\n").isprintable(), "one line, and nothing but text"


def test_a_name_in_another_script_is_not_refused(tmp_path: Path) -> None:
    bundle = read_bundle(make_bundle(tmp_path, **{"\u00fcbersicht.md": "", "\u6570.txt": ""}))
    assert {file.path for file in bundle.files} >= {"\u00fcbersicht.md", "\u6570.txt"}


@pytest.mark.parametrize("path", ["../evil.py", "/abs.py", "a/../../b.py", "a\\b.py"])
def test_nothing_is_unpacked_outside_its_folder(tmp_path: Path, path: str) -> None:
    bundle = read_bundle(make_bundle(tmp_path, **{path: "print()"}))
    with pytest.raises(UsageError, match="outside its own folder"):
        unpack_bundle(bundle, tmp_path / "inner")


def test_what_is_unpacked_is_what_was_read(tmp_path: Path) -> None:
    bundle = read_bundle(make_bundle(tmp_path, **{"client/app/client_app.py": "app = 1\n"}))
    unpack_bundle(bundle, tmp_path / "inner")
    assert (tmp_path / "inner" / "client" / "app" / "client_app.py").read_text() == "app = 1\n"


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.fab"
    text.write_text("not a zip")
    with pytest.raises(UsageError, match="is not an app bundle"):
        read_bundle(text)
    with pytest.raises(UsageError, match="cannot be read"):
        read_bundle(tmp_path / "absent.fab")
    empty = tmp_path / "empty.fab"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme.md", "")
    with pytest.raises(UsageError, match="is not an app bundle"):
        read_bundle(empty)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_bundle, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(UsageError, match="a bundle has at most"):
        read_bundle(make_bundle(tmp_path, zeros=b"\0" * 2000))


def test_a_name_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("pyproject.toml", PROJECT)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("pyproject.toml", PROJECT)
    path = tmp_path / "twice.fab"
    path.write_bytes(data.getvalue())
    with pytest.raises(UsageError, match="a bundle has at most"):
        read_bundle(path)
