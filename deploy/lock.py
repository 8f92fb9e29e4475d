"""What both images are made of, to the file: hash-locked requirements and a bill of materials.

    python -m deploy.lock           # resolve and write, with the registry; `make lock`
    python -m deploy.lock --check   # do they fit pyproject.toml and each other? No network

For each image it writes `deploy/<image>/requirements.lock`, which the Dockerfile installs with
`pip install --require-hashes --no-deps`, and `deploy/<image>/sbom.cdx.json` (CycloneDX).
pip resolves, and the hashes are those that the registry states: no wheel is downloaded. The
versions are those of the environment that runs this, so that what was tested is what is locked;
builds on this machine's disk are not looked at, since another machine does not have them.
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
"""The extras of pyproject.toml that each image has."""
TARGET = ("Linux", "x86_64", "3.11")
GLIBC_MINOR = 36
"""Of the images' Debian 12; wheels for a later glibc do not run there."""
CUDA = re.compile(r"torch|triton|cuda-.*|nvidia-.*")
"""torch as it comes by default, and what it alone needs: another build of torch replaces them."""
CUDA_HEAD = "# torch with CUDA; left out by the Dockerfile where TORCH_INDEX names another build."
_LINE = re.compile(r"([a-z0-9-]+)==(\S+) --hash=sha256:([0-9a-f]{64})")
_LOCAL = ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT", "PIP_NO_INDEX")


class LockError(FedvitalsError):
    """The lock files cannot be made, or do not fit."""


@dataclass(frozen=True)
class Project:
    """What pyproject.toml asks for an image.

    Attributes:
        name: of the project.
        version: of the project.
        requirements: what runs and what builds the project, as pyproject.toml writes it.
    """

    name: str
    version: str
    requirements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A SHA-256 over the requirements, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.requirements)).encode()).hexdigest()


def read_project(image: str, pyproject: Path = REPOSITORY / "pyproject.toml") -> Project:
    """Read what an image has to have."""
    content = tomllib.loads(pyproject.read_text())
    project = content["project"]
    wanted = [*project["dependencies"], *content["build-system"]["requires"]]
    for extra in IMAGES[image]:
        wanted += project["optional-dependencies"][extra]
    return Project(project["name"], project["version"], tuple(wanted))


def resolve(project: Project) -> list[Distribution]:
    """Ask pip for the files that an image's requirements come down to.

    Raises:
        LockError: this machine is not like the images, pip finds no solution, or a file is not the
            registry's.
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
                f"{metadata['name']} comes from {url}, which no other machine can check"
            )
        found.append(Distribution.of(metadata, digest))
    return sorted(found, key=lambda one: one.name)


def _tested(project: Project) -> list[str]:
    """The versions of this environment; a local build's is that of the release it is built from."""
    versions: dict[str, str] = {}
    for found in distributions():  # the first of a name is the one that is imported
        versions.setdefault(canonicalize_name(found.metadata["Name"]), found.version)
    versions.pop(project.name, None)
    return [f"{name}=={version.partition('+')[0]}" for name, version in versions.items()]


def _platforms() -> Iterator[str]:
    for minor in range(GLIBC_MINOR, 4, -1):
        yield f"manylinux_2_{minor}_{TARGET[1]}"
    yield from (f"manylinux2014_{TARGET[1]}", f"linux_{TARGET[1]}")


def lock_text(project: Project, found: Iterable[Distribution]) -> str:
    """Write the lock file; torch with CUDA comes last, so that it can be cut off."""
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
        LockError: a line is not one file with its hash, or a name stands twice.
    """
    locked: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise LockError(f"{line!r} is no name==version --hash=sha256:...")
        if match[1] in locked:
            raise LockError(f"{match[1]} stands twice")
        locked[match[1]] = (match[2], match[3])
    return locked


def faults(project: Project, lock: str, sbom: str) -> list[str]:
    """Say how a lock file and a bill of materials do not fit the project or each other."""
    try:
        locked = read_lock(lock)
    except LockError as problem:
        return [str(problem)]
    wrong = []
    if f"sha256:{project.digest}\n" not in lock:
        wrong.append("pyproject.toml asks for other requirements than it was made from")
    for text in project.requirements:
        wanted = Requirement(text)
        version, _ = locked.get(canonicalize_name(wanted.name), ("", ""))
        if not version or not wanted.specifier.contains(version, prereleases=True):
            wrong.append(f"pyproject.toml asks for {text}, locked is {version or 'none'}")
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
        LockError: they cannot be made, or do not fit.
    """
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, ask nobody")
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
