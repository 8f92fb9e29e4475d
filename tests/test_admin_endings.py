"""How the commands of administrators end that write single files: keys, approvals, accounts."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from common.console import run
from tests.client.policy.bundle_files import make_bundle
from tests.samples.approvals import UNTIL
from tests.test_endings import FLUSH, failing, full, last_line

REPOSITORY = Path(__file__).resolve().parents[1]
SERVER = '[server]\naddress = "127.0.0.1:9443"\nstate = "state"\n[tls]\n' + "".join(
    f'{name} = "{name}.pem"\n' for name in ("certificate", "key", "ca")
)
COMMANDS = {
    "approve": f"client approve app.fab --policy policy.toml --yes --study S --until {UNTIL}",
    "bundle": "server bundle --app app --out new.fab",
    "new key": "server bundle --new-key author.key",
    "operators add": "server operators add a.meyer --config server.toml",
    "operators remove": "server operators remove b.novak --config server.toml",
}


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Run a command in a folder with all its inputs, and return its exit code."""

    class Builder:
        def build(self, _app: Path, folder: Path) -> Path:
            return make_bundle(folder)

    monkeypatch.setattr("server.cli.bundle.connect", lambda *_: Builder())
    monkeypatch.chdir(tmp_path)
    policy = (REPOSITORY / "deploy" / "site" / "policy.toml").read_text()
    (tmp_path / "policy.toml").write_text(policy)
    make_bundle(tmp_path)
    (tmp_path / "server.toml").write_text(SERVER)
    for name in ("certificate", "key", "ca"):
        (tmp_path / f"{name}.pem").touch(0o600)
    from server.deployment.operators import Operators

    Operators(tmp_path / "state").add("b.novak")

    def call(words: str) -> int:
        program, *arguments = words.split()
        return run(import_module(f"{program}.cli").app, arguments, program)

    return call


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "fedvitals-home" not in str(path)
    }


@pytest.mark.parametrize("moment", [0, 1])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_an_interrupted_command_leaves_all_or_nothing(
    start: Callable[[str], int],
    words: str,
    moment: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(tmp_path)
    with failing(FLUSH, KeyboardInterrupt(), moment) as calls:
        code = start(words)
    if calls[0] <= moment:
        assert code == 0, "it writes one file"
        return
    assert code == 130
    assert last_line(capsys.readouterr().err).startswith("Interrupted; ")
    if "approve" not in words or moment == 0:  # the record of its files is written last
        assert contents(tmp_path) == before
    assert start(words) == 0


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_full_disk_names_the_file_and_changes_nothing(
    start: Callable[[str], int],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = contents(tmp_path)
    with failing(FLUSH, full()):
        assert start(words) not in (0, 130)
    line = last_line(capsys.readouterr().err)
    assert "No space left on device" in line
    assert contents(tmp_path) == before
    assert start(words) == 0
