"""The Dockerfiles, by the relevant rules of hadolint and some of our own.

Nothing is built: no container engine runs here. Where the binary `hadolint` is on the path, it is
asked too.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.setup.deployed import REPOSITORY, Site

ROLES = ("site", "server")


def path(role: str) -> Path:
    return REPOSITORY / "deploy" / role / "Dockerfile"


def instructions(role: str) -> list[tuple[str, str]]:
    """Each instruction with its text; comments left out, continued lines joined."""
    text = path(role).read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word, text) for word, text in split]


def texts(role: str, word: str) -> list[str]:
    return [text for name, text in instructions(role) if name == word]


@pytest.mark.parametrize("role", ROLES)
def test_base_images_have_a_whole_version(role: str) -> None:
    bases = [text.split()[0] for text in texts(role, "FROM")]
    assert len(set(bases)) == 1, "one base, so that the copied environment fits"
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-[a-z]+", bases[0])


def test_both_images_are_built_alike() -> None:
    site, server = (path(role).read_text().partition("AS build\n")[2] for role in ROLES)
    (build, _, _), (other, _, _) = site.partition("\nFROM "), server.partition("\nFROM ")
    assert build.replace("deploy/site/", "deploy/server/") == other


@pytest.mark.parametrize("role", ROLES)
def test_it_runs_as_a_user_by_number_who_is_not_root(role: str) -> None:
    words = [word for word, _ in instructions(role)]
    assert texts(role, "USER") == ["10001"]
    last_build_step = max(i for i, word in enumerate(words) if word in ("RUN", "COPY"))
    assert words.index("USER") > last_build_step, "nothing is written as the user"


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_fetched_but_by_pip_and_nothing_secret_comes_in(role: str) -> None:
    assert texts(role, "ADD") == []
    assert texts(role, "EXPOSE") == []
    run = " ".join(texts(role, "RUN"))
    assert not re.search(r"\b(sudo|curl|wget|apt-get|chmod 777)\b", run)
    assert run.count("pip install") == run.count("pip install --no-cache-dir")
    given = " ".join(texts(role, "COPY"))
    assert not re.search(r"(^| )\.( |$)|private|\.key|\.toml/|secret", given)
    assert set(texts(role, "ARG")) == {'TORCH_INDEX=""', 'TORCH_SHA256=""'}


PIP = """#!/bin/sh
echo "$@" >> calls
while [ $# -gt 1 ]; do shift; done
cat "$1" >> calls
"""
"""Replacement for pip: records its arguments, and the file that the last of them names."""


def installed(role: str, folder: Path, **arguments: str) -> tuple[int, list[str]]:
    """Run the step that installs the lock, with build arguments; return the calls of pip."""
    (step,) = [text for text in texts(role, "RUN") if "requirements.lock" in text]
    (folder / "pip").write_text(PIP)
    (folder / "pip").chmod(0o755)
    shutil.copy(path(role).with_name("requirements.lock"), folder)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", **arguments}
    code = subprocess.run(["sh", "-c", step], env=environment, cwd=folder, check=False).returncode
    calls = folder / "calls"
    return code, calls.read_text().splitlines() if calls.exists() else []


HASHED = "install --no-cache-dir --require-hashes --no-deps --only-binary :all:"


@pytest.mark.parametrize("role", ROLES)
def test_what_is_installed_is_the_lock(role: str, tmp_path: Path) -> None:
    code, calls = installed(role, tmp_path)
    lock = path(role).with_name("requirements.lock").read_text().splitlines()
    assert code == 0
    assert calls == [f"{HASHED} --requirement requirements.lock", *lock]
    assert any(line.startswith("nvidia-") for line in lock)


@pytest.mark.parametrize("role", ROLES)
def test_another_torch_is_installed_by_its_hash_and_without_cuda(role: str, tmp_path: Path) -> None:
    code, calls = installed(role, tmp_path, TORCH_INDEX="https://torch/cpu", TORCH_SHA256="0" * 64)
    assert code == 0
    first, torch, second, *rest = calls
    assert first == f"{HASHED} --index-url https://torch/cpu --requirement torch.lock"
    assert re.fullmatch(r"torch==[0-9.]+ --hash=sha256:0{64}", torch)
    assert second == f"{HASHED} --requirement requirements.lock"
    assert not [line for line in rest if re.match(r"torch==|nvidia-|cuda-|triton", line)]
    assert any(line.startswith("websockets==") for line in rest)


@pytest.mark.parametrize("role", ROLES)
def test_another_torch_without_its_hash_is_not_installed(role: str, tmp_path: Path) -> None:
    code, calls = installed(role, tmp_path, TORCH_INDEX="https://torch/cpu")
    assert code != 0
    assert calls == []


@pytest.mark.parametrize("role", ROLES)
def test_beside_the_lock_nothing_but_our_own_code_is_installed(role: str) -> None:
    """Without isolation: with the lock's setuptools, which pip would download otherwise."""
    steps = [text for text in texts(role, "RUN") if "pip install" in text]
    assert len(steps) == 2
    own = "pip install --no-cache-dir --no-index --no-deps --no-build-isolation . && pip check"
    assert steps[1] == own


@pytest.mark.parametrize("role", ROLES)
def test_what_is_copied_is_there_and_not_ignored(role: str) -> None:
    ignored = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for text in texts(role, "COPY"):
        if text.startswith("--from="):
            continue
        for source in text.split()[:-1]:
            assert (REPOSITORY / source).exists()
            assert f"!{source}" in ignored


@pytest.mark.parametrize("role", ROLES)
def test_no_folder_that_can_be_written_to_gives_code(role: str) -> None:
    environment = " ".join(texts(role, "ENV"))
    assert "PYTHONSAFEPATH=1" in environment  # the working directory is /tmp
    assert "PYTHONNOUSERSITE=1" in environment


@pytest.mark.parametrize("role", ROLES)
def test_flower_fetches_and_reports_nothing(role: str) -> None:
    environment = " ".join(texts(role, "ENV"))
    for setting in (
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION=1",
        "FLWR_TELEMETRY_ENABLED=0",
        "FLWR_DISABLE_UPDATE_CHECK=1",
        "HF_HUB_OFFLINE=1",
    ):
        assert setting in environment


def test_the_policy_is_found_in_the_folder_that_compose_mounts() -> None:
    (made,) = [text for text in texts("site", "RUN") if "useradd" in text]
    assert "install --directory /etc/fedvitals/policy" in made
    assert "ln " not in made  # the node takes no policy by a link
    page = (REPOSITORY / "deploy" / "README.md").read_text()
    assert """'s|"policy.toml"|"policy/policy.toml"|' /srv/fedvitals/site.toml""" in page


def test_the_entrypoints_are_the_commands_that_the_integration_tests_run() -> None:
    (site,) = texts("site", "ENTRYPOINT")
    command = Site.command(None, "node")  # type: ignore[arg-type]
    assert command[0] == sys.executable
    assert json.loads(site) == ["python", *command[1:-1]]
    (server,) = texts("server", "ENTRYPOINT")
    assert json.loads(server) == ["python", "-P", "-m", "server"]
    assert json.loads(texts("site", "CMD")[-1])[0] == "node"
    assert json.loads(texts("server", "CMD")[-1])[0] == "start"


@pytest.mark.parametrize("role", ROLES)
def test_hadolint_finds_nothing(role: str) -> None:
    hadolint = shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not here")
    command = [hadolint, str(path(role))]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
