"""The runbooks: every command and option in them exists, every link leads somewhere.

Checked are the blocks of commands, against the commands' own parsers and the scripts' own usage;
not what the commands print, nor docker, kubectl, helm, systemctl and openssl.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from client.cli import app as client_app
from client.preflight import local_api, machine, network, site
from common.errors import AuditError, NodeError, PolicyError, UsageError
from server.cli import app as server_app
from tests.integration.setup.deployed import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
DRY_RUN = "../docs/how-to/dry-run.md"
NAMES = [str(path.relative_to(DEPLOY)) for path in sorted(DEPLOY.rglob("*.md"))] + [DRY_RUN]
APPS = {"client": client_app, "server": server_app}
BY_IMAGE = {
    "fedvitals-site:0.1.0": "client",
    "fedvitals-server:0.1.0": "server",
}


def blocks(path: Path) -> list[str]:
    return re.findall(r"^ *```\n(.*?)^ *```$", path.read_text(), re.DOTALL | re.MULTILINE)


def lines(path: Path) -> Iterator[list[str]]:
    """The words of each command in the blocks of a document; a comment ends a line."""
    for block in blocks(path):
        if "python -c" in block:  # a program, not a list of commands
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words: list[str] = []
            for word in shlex.split(line, comments=True):
                if word == "&&":
                    yield words
                    words = []
                else:
                    words.append(word)
            yield words


def commands(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield our own commands in a document: the package and its arguments."""
    for words in lines(path):
        if "-m" in words and words[words.index("-m") + 1] in APPS:
            at = words.index("-m") + 1
            yield words[at], words[at + 1 :]
        if "--entrypoint" in words or words[:2] == ["docker", "build"]:
            continue
        for image in BY_IMAGE.keys() & set(words):
            yield BY_IMAGE[image], words[words.index(image) + 1 :]
        if words[:3] == ["docker", "compose", "run"]:
            yield "client", words[words.index("node") + 1 :]


@cache
def group(package: str) -> Any:
    return typer.main.get_command(APPS[package])


def complaint(package: str, words: list[str]) -> str:
    """Return the error of the command's own parser, empty if there is none."""
    command: Any = group(package)
    rest = list(words)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        name = rest.pop(0) if rest else ""
        if name not in command.commands:
            return f"{package} has no command {name!r}"
        command = command.commands[name]
    rest = rest[: rest.index("<")] if "<" in rest else rest
    try:
        with command.make_context(command.name, rest, resilient_parsing=False):
            return ""
    except Exception as problem:  # typer brings a click of its own, with exceptions of its own
        return f"{' '.join(words)}: {getattr(problem, 'message', problem)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_exists_with_these_options(name: str) -> None:
    complaints = [complaint(package, words) for package, words in commands(DEPLOY / name)]
    assert [one for one in complaints if one] == []


def test_the_commands_are_found_at_all() -> None:
    found = {name: len(list(commands(DEPLOY / name))) for name in NAMES}
    assert found["README.md"] >= 6
    assert found["runbooks/participant.md"] >= 8
    assert found["runbooks/operator.md"] >= 9
    assert found[DRY_RUN] >= 3
    assert complaint("client", ["node", "--confg", "x"])
    assert complaint("client", ["nodes"])
    assert complaint("server", ["sites", "add", "only-a-name"])
    assert complaint("client", ["audit", "verify", "--anchor"])


@pytest.mark.parametrize("name", NAMES)
def test_every_script_exists_with_these_options(name: str) -> None:
    for words in lines(DEPLOY / name):
        if words and words[0].startswith("deploy/certs/"):
            script = REPOSITORY / words[0]
            assert script.stat().st_mode & 0o111, words[0]
            for option in (word for word in words if word.startswith("--")):
                assert option in script.read_text(), f"{words[0]} has no {option}"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_a_command_names_exists(name: str) -> None:
    for words in lines(DEPLOY / name):
        for word in words:
            if word.startswith(("deploy/", "benchmarks/", "common/")):
                assert list(REPOSITORY.glob(word)), word


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    path = DEPLOY / name
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


def test_the_participants_runbook_explains_every_finding_of_preflight() -> None:
    sources = "".join(
        Path(str(one.__file__)).read_text() for one in (local_api, machine, network, site)
    )
    codes = set(re.findall(r"\b(?:ok|warn|fail)\(\s*\"([a-z]+)\"", sources))
    assert len(codes) >= 14
    table = text("runbooks/participant.md").split("## 6. Preflight")[1].split("## 7.")[0]
    explained = set(re.findall(r"`([a-z]+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.M))))
    assert explained == codes


def test_the_participants_runbook_explains_every_refusal_of_the_gate() -> None:
    sources = "".join(
        path.read_text()
        for room in ("egress", "node", "policy")
        for path in sorted((REPOSITORY / "client" / room).rglob("*.py"))
    )
    codes = set(re.findall(r"RefusedError\(\s*\"([a-z-]+)\"", sources)) | {"policy", "gate-failed"}
    table = text("runbooks/participant.md").split("## 9. While it runs")[1].split("## 10.")[0]
    named = "".join(re.findall(r"^\| refused: (.*?)\|", table, re.MULTILINE))
    assert set(re.findall(r"`([a-z-]+)`", named)) == codes


def test_the_exit_codes_are_those_of_the_program() -> None:
    from client.node.supernode import LOST

    table = text("runbooks/participant.md").split("## 8.")[1].split("## 9.")[0]
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}
    errors = (PolicyError, AuditError, NodeError, UsageError)
    assert codes == {LOST} | {error.exit_code for error in errors}


def test_the_data_flow_sheet_names_every_number_and_field_of_the_policy() -> None:
    from client.policy.policy import load_policy

    sheet = text("governance/data-flow.md")
    policy = load_policy(DEPLOY / "site" / "policy.toml")
    for name in (*policy.metrics, *policy.join):
        start, _, last = name.rpartition(".")
        if name.startswith(("validation.mae.", "validation.wql.")):
            assert f"`{start}.*`" in sheet
        else:
            assert f"`{name}`" in sheet or f"`.{last}`" in sheet, name


def test_the_page_is_one_page() -> None:
    assert len(text("README.md").splitlines()) <= 120
