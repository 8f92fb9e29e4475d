"""Hash-locked requirements and bill of materials (SBOM) of both images.

    python -m deploy.lock           # resolve and write, with the registry; `make lock`
    python -m deploy.lock --check   # compare with pyproject.toml and each other; no network

For each image it writes `deploy/<image>/requirements.lock`, which the Dockerfile installs with
`pip install --require-hashes --no-deps`, and `deploy/<image>/sbom.cdx.json` (CycloneDX).
pip resolves, with the registry's hashes: no wheel is downloaded. The locked versions are those of
the environment that runs this, which are the tested ones; local builds are ignored, since other
machines do not have them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.errors import FedvitalsError
from deploy.sbom import Distribution, bill_of_materials

REPOSITORY = Path(__file__).resolve().parents[1]
IMAGES: Mapping[str, tuple[str, ...]] = {"site": ("ingest",), "server": ()}
"""Extras of pyproject.toml, by image."""
TARGET = ("Linux", "x86_64", "3.11")
GLIBC_MINOR = 36
"""glibc 2.36 of the images' Debian 12; wheels for a later glibc do not run there."""
CUDA = re.compile(r"torch|triton|cuda-.*|nvidia-.*")
"""The registry's torch and packages that only it needs; another build of torch replaces them."""
CUDA_HEAD = "# torch with CUDA; left out by the Dockerfile where TORCH_INDEX names another build."
_LINE = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")
_LOCAL = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_NO_INDEX")


class LockError(FedvitalsError):
    """The lock files cannot be written, or do not match."""


@dataclass(frozen=True)
class Project:
    """Requirements of an image in pyproject.toml.

    Attributes:
        name: name of the project.
        version: version of the project.
        requirements: dependencies and build requirements, as written in pyproject.toml.
    """

    name: str
    version: str
    requirements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the sorted requirements."""
        return hashlib.sha256("\n".join(sorted(self.requirements)).encode()).hexdigest()


def read_project(image: str, pyproject: Path = REPOSITORY / "pyproject.toml") -> Project:
    """Read the requirements of an image."""
    content = tomllib.loads(pyproject.read_text())
    project = content["project"]
    wanted = [*project["dependencies"], *content["build-system"]["requires"]]
    for extra in IMAGES[image]:
        wanted += project["optional-dependencies"][extra]
    return Project(project["name"], project["version"], tuple(wanted))


def resolve(project: Project) -> list[Distribution]:
    """Resolve an image's requirements with pip.

    Raises:
        LockError: this machine is unlike the images, pip finds no solution, or a file is not
            from the registry.
    """
    here = (platform.system(), platform.machine(), ".".join(platform.python_version_tuple()[:2]))
    if here != TARGET:
        raise LockError(
            f"the images are {' '.join(TARGET)}, this is {' '.join(here)}; run it there"
        )
    with tempfile.TemporaryDirectory() as folder:
        report, constraints = Path(folder, "report.json"), Path(folder, "constraints.txt")
        constraints.write_text("\n".join(_tested(project)))
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--dry-run"),
            *("--ignore-installed", "--only-binary", ":all:", "--report", str(report)),
            *("--implementation", "cp", "--python-version", TARGET[2], "--target", folder),
            *(word for name in _platforms() for word in ("--platform", name)),
            *("--constraint", str(constraints), *project.requirements),
        ]
        kept = {name: value for name, value in os.environ.items() if name not in _LOCAL}
        result = subprocess.run(  # noqa: S603 - our own command
            command,
            env={**kept, "PIP_CONFIG_FILE": os.devnull},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise LockError(f"pip finds no solution: {result.stderr.strip()}")
        return read_report(json.loads(report.read_text()))


def read_report(report: Mapping[str, Any]) -> list[Distribution]:
    """Read pip's installation report, sorted by name.

    Raises:
        LockError: a file is not a wheel of a registry with a SHA-256.
    """
    found = []
    for item in report["install"]:
        metadata, origin = item["metadata"], item["download_info"]
        url = origin["url"]
        digest = origin.get("archive_info", {}).get("hashes", {}).get("sha256")
        if not (url.startswith("https://") and url.endswith(".whl") and digest):
            raise LockError(
                f"{metadata['name']} comes from {url}, which no other machine can verify"
            )
        found.append(Distribution.of(metadata, digest))
    return sorted(found, key=lambda one: one.name)


def _tested(project: Project) -> list[str]:
    """Return this environment's versions as constraints; a local version becomes its release."""
    versions: dict[str, str] = {}
    for found in distributions():  # the first of a name is the imported one
        versions.setdefault(canonicalize_name(found.metadata["Name"]), found.version)
    versions.pop(project.name, None)
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def _platforms() -> Iterator[str]:
    for minor in range(GLIBC_MINOR, 4, -1):
        yield f"manylinux_2_{minor}_{TARGET[1]}"
    yield from (f"manylinux2014_{TARGET[1]}", f"linux_{TARGET[1]}")


def lock_text(project: Project, found: Iterable[Distribution]) -> str:
    """Return the lock file's text, with torch and CUDA last, so that they can be cut off."""
    lines = {True: list[str](), False: list[str]()}
    for one in found:
        line = f"{one.name}=={one.version} --hash=sha256:{one.sha256}"
        lines[bool(CUDA.fullmatch(one.name))].append(line)
    head = f"# Made by `make lock` for {' '.join(TARGET)}; do not edit."
    asked = f"# requirements of pyproject.toml: sha256:{project.digest}"
    return "\n".join([head, asked, *lines[False], CUDA_HEAD, *lines[True], ""])


def read_lock(text: str) -> dict[str, tuple[str, str]]:
    """Read a lock file: version and SHA-256 by name.

    Raises:
        LockError: a line is not one file with its hash, or a name occurs twice.
    """
    locked: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise LockError(f"{line!r} is no name==version --hash=sha256:...")
        if match[1] in locked:
            raise LockError(f"{match[1]} occurs twice")
        locked[match[1]] = (match[2], match[3])
    return locked


def faults(project: Project, lock: str, sbom: str) -> list[str]:
    """Return the mismatches between the project, a lock file and a bill of materials."""
    try:
        locked = read_lock(lock)
    except LockError as problem:
        return [str(problem)]
    wrong = []
    if f"sha256:{project.digest}\n" not in lock:
        wrong.append("pyproject.toml has other requirements than the lock was made from")
    for text in project.requirements:
        wanted = Requirement(text)
        version, _ = locked.get(canonicalize_name(wanted.name), ("", ""))
        if not version or not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"pyproject.toml requires {text}, locked is {version or 'none'}")
    content = json.loads(sbom)
    listed = [(one["name"], one["version"], one["hashes"]) for one in content["components"]]
    expected = [
        (name, version, [{"alg": "SHA-256", "content": digest}])
        for name, (version, digest) in sorted(locked.items())
    ]
    if listed != expected:
        wrong.append("the bill of materials lists other files than the lock")
    if content["metadata"]["component"]["version"] != project.version:
        wrong.append(f"the bill of materials is not that of version {project.version}")
    return wrong


def main(arguments: list[str] | None = None) -> None:
    """Write both images' files, or check them.

    Raises:
        LockError: they cannot be written, or do not match.
    """
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, use no network")
    check = parser.parse_args(arguments).check
    for image in IMAGES:
        project, folder = read_project(image), REPOSITORY / "deploy" / image
        lock, sbom = folder / "requirements.lock", folder / "sbom.cdx.json"
        if check:
            there = lock.is_file() and sbom.is_file()
            wrong = faults(project, lock.read_text(), sbom.read_text()) if there else ["missing"]
            if wrong:
                raise LockError(f"deploy/{image}: {'; '.join(wrong)}; run `make lock`")
            continue
        found = resolve(project)
        lock.write_text(lock_text(project, found))
        name = f"{project.name}-{image}"
        sbom.write_text(bill_of_materials(name, project.version, project.requirements, found))
        print(f"deploy/{image}: {len(found)} distributions locked")


if __name__ == "__main__":
    try:
        main()
    except LockError as problem:
        sys.exit(f"error: {problem}")
