"""Reader of app bundles; `client.policy.approval_editor` writes their approvals.

A bundle is the zip file that `flwr build` creates and the coordinator ships to the site. It is
approved by its SHA-256: any change to any file makes it another bundle.
"""

from __future__ import annotations

import hashlib
import io
import tomllib
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from common.errors import UsageError
from common.flower.bundle_signature import bundle_name

MAX_BUNDLE_BYTES = 10 * 2**20
"""Flower's limit for the zip file."""
MAX_UNPACKED_BYTES = 100 * 2**20
MAX_FILES = 2000

CODE_AND_TEXT = frozenset(
    {".py", ".toml", ".md", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".j2"}
    | {"", ".list"}  # LICENSE, and the list of contents that Flower adds
)


@dataclass(frozen=True)
class BundleFile:
    """One file of a bundle: its path, size in bytes, and SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class BundleContents:
    """Contents of a bundle.

    Attributes:
        sha256: SHA-256 of the whole file.
        name: publisher, name and version, from its pyproject.toml.
        client_app: the object that runs at the site, e.g. ``client.app.client_app:app``.
        files: all files, by path.
        remarks: findings for the administrator to consider before approving.
        data: the bytes of the whole file.
    """

    sha256: str
    name: str
    client_app: str
    files: tuple[BundleFile, ...]
    remarks: tuple[str, ...]
    data: bytes


def read_bundle(path: Path) -> BundleContents:
    """Read a bundle; none of its code is run.

    Raises:
        UsageError: if it is missing, too large or no bundle, or a name in it is not printable.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BUNDLE_BYTES + 1)
    except OSError as problem:
        raise UsageError(f"{path} cannot be read: {problem.strerror}") from problem
    if len(data) > MAX_BUNDLE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BUNDLE_BYTES} bytes, the limit of a bundle")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as bundle:
            _check_size(path, bundle)
            contents = {one.filename: bundle.read(one) for one in bundle.infolist()}
        project = tomllib.loads(contents["pyproject.toml"].decode())
        name = bundle_name(project)
        client_app = str(project["tool"]["flwr"]["app"]["components"]["clientapp"])
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RuntimeError, OSError) as problem:
        raise UsageError(f"{path} is not an app bundle; make one with `flwr build`") from problem
    _check_names(path, (name, client_app, *contents))
    files = tuple(
        BundleFile(one, len(content), hashlib.sha256(content).hexdigest())
        for one, content in sorted(contents.items())
    )
    digest = hashlib.sha256(data).hexdigest()
    return BundleContents(digest, name, client_app, files, _remarks(files), data)


def unpack_bundle(bundle: BundleContents, folder: Path) -> None:
    """Write a bundle's files into a folder.

    Raises:
        UsageError: if a path leads out of the folder.
    """
    with zipfile.ZipFile(io.BytesIO(bundle.data)) as archive:
        for file in bundle.files:
            if not _inside(file.path):
                raise UsageError(f"the bundle has a file {file.path!r} outside its own folder")
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(file.path))


def _check_size(path: Path, bundle: zipfile.ZipFile) -> None:
    members = bundle.infolist()
    names = {member.filename for member in members}
    size = sum(member.file_size for member in members)
    if len(members) > MAX_FILES or len(names) != len(members) or size > MAX_UNPACKED_BYTES:
        raise UsageError(
            f"{path} holds {len(members)} files of {size} bytes; a bundle has at most {MAX_FILES} "
            f"of {MAX_UNPACKED_BYTES}, each name once"
        )


def _check_names(path: Path, names: Iterable[str]) -> None:
    """Refuse names with control characters, which could overwrite the list of files on screen."""
    for name in names:
        if not name.isprintable():  # !a: no control character reaches the terminal
            raise UsageError(f"{path} holds a name with control characters, {name!a}")


def _remarks(files: tuple[BundleFile, ...]) -> tuple[str, ...]:
    remarks = [
        f"{file.path}: leads out of the bundle's folder" for file in files if not _inside(file.path)
    ]
    remarks += [
        f"{file.path}: neither Python nor text"
        for file in files
        if PurePosixPath(file.path).suffix.lower() not in CODE_AND_TEXT
    ]
    return tuple(remarks)


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\\" not in path
