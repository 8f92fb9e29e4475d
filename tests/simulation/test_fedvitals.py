from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from simulation.fedvitals import main
from simulation.programs import PROGRAMS

REPOSITORY = Path(__file__).resolve().parents[2]

WITHOUT_EXTRA = """
import sys
for name in ("duckdb", "ray", "simulation.cli", "server.cli"):
    sys.modules[name] = None
from simulation.fedvitals import main
sys.exit(main(sys.argv[1:]))
"""


def script(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script by its module; what pip installs as `fedvitals` calls the same function."""
    return subprocess.run(
        [sys.executable, "-m", "simulation.fedvitals", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_pip_installs_the_script() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, function = project["scripts"]["fedvitals"].partition(":")
    assert getattr(import_module(module), function) is main


def test_the_help_names_the_programs() -> None:
    done = script("--help")
    assert done.returncode == 0
    assert "Usage: fedvitals " in done.stdout
    shown = " ".join(done.stdout.replace("│", " ").split())
    for name, (_, summary) in PROGRAMS.items():
        assert f"{name} {summary}" in shown


def test_the_version_is_the_distributions() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert script("--version").stdout == f"{project['version']}\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_has_its_own_help(name: str) -> None:
    done = script(name, "--help")
    assert done.returncode == 0
    assert f"Usage: fedvitals {name} " in done.stdout


def test_an_error_is_one_line_with_its_exit_code() -> None:
    done = script("site", "check", "/nowhere")
    assert done.returncode == 4
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    debug = script("site", "--debug", "check", "/nowhere")
    assert debug.returncode == 4
    assert "Traceback" in debug.stderr


def test_a_site_needs_nothing_of_the_other_programs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, "site", "node", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: fedvitals site node " in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_a_sub_command(shell: str) -> None:
    line = "fedvitals site pre"
    done = script(
        _FEDVITALS_COMPLETE=f"complete_{shell}",
        COMP_WORDS=line,
        COMP_CWORD="2",
        _TYPER_COMPLETE_ARGS=line,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert done.returncode == 0, done.stderr
    assert "preflight" in done.stdout
    assert "ingest" not in done.stdout


def test_a_shell_completes_an_option() -> None:
    line = "fedvitals sim run --back"
    done = script(_FEDVITALS_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD="3")
    assert done.stdout == "--backbone\n"


def test_the_completion_script_is_shown_for_the_shell_in_use() -> None:
    done = script("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "complete -o default -F _fedvitals_completion fedvitals" in done.stdout
