"""Search for a settings file that the command line does not name."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.cli import app as client
from common.config import default_file as module
from common.config.default_file import default_file
from common.console import run
from common.errors import UsageError
from server.cli import app as server


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    found = {name: tmp_path / name for name in ("here", "home", "system")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.chdir(found["here"])
    monkeypatch.setenv("FEDVITALS_HOME", str(found["home"]))
    monkeypatch.setattr(module, "SYSTEM_FOLDER", found["system"])
    return found


def test_the_first_place_that_has_the_file_is_taken_and_named(
    places: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("system", "home", "here"):
        file = places[name] / "site.toml"
        file.write_text("")
        assert default_file("site.toml").absolute() == file
        said = capsys.readouterr()
        assert said.err == f"using {file}\n"
        assert said.out == ""


def test_without_the_file_every_place_is_named(places: dict[str, Path]) -> None:
    with pytest.raises(UsageError) as caught:
        default_file("site.toml", "--policy")
    for folder in places.values():
        assert str(folder) in str(caught.value)
    assert str(caught.value).endswith("; name the file with --policy")


@pytest.mark.parametrize(
    ("app", "line", "name"),
    [
        (server, ["status"], "server.toml"),
        (server, ["start"], "server.toml"),
        (server, ["stop"], "server.toml"),
        (server, ["run"], "server.toml"),
        (server, ["stop-run", "1"], "server.toml"),
        (server, ["sites", "list"], "server.toml"),
        (server, ["sites", "remove", "ccu"], "server.toml"),
        (server, ["operators", "list"], "server.toml"),
        (client, ["node"], "site.toml"),
        (client, ["app"], "site.toml"),
        (client, ["health"], "site.toml"),
        (client, ["preflight"], "site.toml"),
        (client, ["audit", "show"], "site.toml"),
        (client, ["audit", "verify"], "site.toml"),
        (client, ["audit", "anchor", "--to", "f"], "site.toml"),
        (client, ["approve", "--list"], "policy.toml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_every_command_with_a_settings_file_has_the_default(
    places: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    app: object,
    line: list[str],
    name: str,
) -> None:
    assert run(app, line) == 2  # type: ignore[arg-type]
    assert f"there is no {name} in " in capsys.readouterr().err
    (places["system"] / name).write_text("nonsense")
    assert run(app, line) != 0  # type: ignore[arg-type]
    error = capsys.readouterr().err
    assert f"using {places['system'] / name}\n" in error
    assert f"error: {places['system'] / name}" in error
    assert run(app, [*line, "--help"]) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["another owner", "open to all"])
def test_a_file_of_somebody_else_in_the_present_folder_is_not_taken(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Before: in /tmp, another user's server.toml received the operator's credential."""
    file = places["here"] / "server.toml"
    file.write_text("")
    (places["system"] / "server.toml").write_text("")
    if change == "another owner":
        monkeypatch.setattr("os.geteuid", lambda: file.stat().st_uid + 1)
        monkeypatch.setattr(module, "ROOT", -1)
    else:
        file.chmod(0o646)
    with pytest.raises(UsageError, match="belongs to another user or can be changed by anyone"):
        default_file("server.toml")
    file.unlink()
    assert default_file("server.toml") == places["system"] / "server.toml"
