"""Every command of README.md, docs/ and deploy/ is run, small, or names the test that runs it."""

from __future__ import annotations

import io
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import typer

from client.cli import app as client
from common.console import run
from server.cli import app as server
from simulation.cli import app as simulation
from tests.docs.documents import REPOSITORY, Command, commands_of, documents
from tests.docs.materials import GIVEN, Materials, keep_splits
from tests.docs.rules import ELSEWHERE, MACHINE, ONCE, RUN, SAID, SMALLER, Elsewhere

PROGRAMS: dict[str, typer.Typer] = {
    "client": client,
    "server": server,
    "simulation": simulation,
}
SHELL_SIGNS = set("$|&;<>*?`~\n")


def elsewhere(command: Command) -> Elsewhere | None:
    return next((entry for entry in ELSEWHERE if entry.covers(command)), None)


def runs(command: Command) -> bool:
    known = any(re.match(pattern, command.text) for pattern in RUN)
    return known and elsewhere(command) is None


COMMANDS = [command for document in documents() for command in commands_of(document)]
TO_RUN = sorted({command.document for command in COMMANDS if runs(command)})


@dataclass
class Reader:
    """Reader who types a document's commands into one shell.

    Attributes:
        materials: the inputs of the commands.
        folder: working folder of the first command, in place of the repository.
        where: working folder of the next command.
        variables: variables that assignments have set.
        said: output of all commands so far.
    """

    materials: Materials
    folder: Path
    where: Path = field(init=False)
    variables: dict[str, str] = field(default_factory=dict)
    said: str = ""

    def __post_init__(self) -> None:
        keep_splits()
        self.where = self.folder
        (self.folder / "benchmarks").symlink_to(REPOSITORY / "benchmarks")
        shutil.copytree(REPOSITORY / "deploy", self.folder / "deploy")
        (self.folder / "etc" / "fedvitals").mkdir(parents=True)
        (self.folder / "srv").mkdir()
        # As in the commands: a path of a machine means one in this folder.
        for path in (self.folder / "deploy").rglob("*.toml"):
            path.write_text(self._here(path.read_text(encoding="utf-8")), encoding="utf-8")

    def _here(self, text: str) -> str:
        """Return a text in which folders of a machine are folders of the test."""
        return re.sub(MACHINE, rf"{self.folder}/\1/", text)

    def small(self, text: str) -> str:
        """Return a command as it is run here."""
        text = self._here(text)
        for pattern, instead in SMALLER:
            filled = instead.format(backbone=self.materials.backbone, app=self.materials.app)
            text = re.sub(pattern, filled, text)
        for placeholder, printed in SAID.items():
            if re.search(placeholder, text):
                found = re.findall(printed, self.said, re.MULTILINE)
                assert found, f"nothing before printed what {placeholder} stands for"
                text = re.sub(placeholder, found[-1], text)
        return text

    def types(self, text: str) -> int:
        """Run a command and return its exit code."""
        if text.startswith("#!python"):
            return self._in_this_process(lambda: exec(text, {"__name__": "__main__"}))
        words = shlex.split(text)
        self._find(words)
        if words[0] == "cd":
            self.where = (self.where / words[1]).resolve()
            return 0
        if all(re.match(r"[a-z_]+=", word) for word in words):
            self.variables |= dict(word.split("=", 1) for word in words)
            return 0
        if words[0] == "python" and not SHELL_SIGNS & set(text):
            if words[1] == "-m":
                program = PROGRAMS[words[2]]
                return self._in_this_process(lambda: run(program, words[3:]))
            return self._in_this_process(lambda: self._script(words[1:]))
        return self._process(["bash", "-euc", text])

    def _find(self, words: list[str]) -> None:
        """Create the inputs of a command, unless an earlier command has."""
        begin = 4 if words[:2] == ["python", "-m"] else 1  # behind `python -m simulation run`
        for before, word in zip(words[begin - 1 :], words[begin:], strict=False):
            place = self.where / word
            maker = GIVEN.get(place.name)
            if maker and before != "--out" and not place.exists():
                with redirect_stdout(io.StringIO()):
                    maker(self.materials, place)

    def _in_this_process(self, call: Callable[[], int | None]) -> int:
        """Run our own code here, where torch is loaded once."""
        printed = io.StringIO()
        with chdir(self.where), redirect_stdout(printed), redirect_stderr(printed):
            code = call()
        self.said += printed.getvalue()
        return code or 0

    def _script(self, words: list[str]) -> int:
        """Run a script with its arguments; return its exit code."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", words)
            patch.syspath_prepend(str(Path(words[0]).parent.resolve()))
            try:
                runpy.run_path(words[0], run_name="__main__")
            except SystemExit as ended:
                return int(ended.code or 0)
        return 0

    def _process(self, command: list[str]) -> int:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            command,
            cwd=self.where,
            env={**os.environ, **self.variables, "PATH": path, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        self.said += done.stdout
        return done.returncode


@pytest.fixture(scope="session")
def materials(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory
) -> Materials:
    return Materials(tmp_path_factory.mktemp("materials"), tiny_bolt, tiny_cohort)


@pytest.mark.slow
@pytest.mark.parametrize("document", TO_RUN)
def test_the_commands_of_a_document_run(
    document: str, materials: Materials, tmp_path: Path
) -> None:
    folder = tmp_path / "reader"
    folder.mkdir()
    reader = Reader(materials, folder)
    for command in commands_of(document):
        if runs(command) and command.text not in materials.done:
            small = reader.small(command.text)
            code = reader.types(small)
            assert code == 0, f"{command}\nrun as: {small}\n{reader.said[-3000:]}"
            if re.match(ONCE, command.text):
                materials.done.add(command.text)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: f"{one.document}:{one.line}")
def test_a_command_is_run_here_or_by_a_test_that_has_it(command: Command) -> None:
    entry = elsewhere(command)
    if entry is None:
        assert runs(command), f"{command}: neither run here nor by a test that is named"
        return
    test = REPOSITORY / entry.test
    assert test.is_file(), f"{command}: there is no {entry.test}"
    text = test.read_text(encoding="utf-8")
    for words in entry.words:
        assert words in text, f"{command}: {entry.test} does not run {words}"


def test_no_rule_is_left_over() -> None:
    texts = [command.text for command in COMMANDS]
    for entry in ELSEWHERE:
        assert any(entry.covers(command) for command in COMMANDS), entry.pattern
    for pattern, _ in SMALLER:
        assert any(re.search(pattern, text) for text in texts), pattern


def test_the_demo_is_the_commands_of_the_tutorial() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "demo"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "simulation prepare synthetic --out " in done.stdout
    assert "simulation run --data " in done.stdout
