"""Reader of app bundles; `client.policy.approval_editor` writes their approvals.

A bundle is the zip file that `flwr build` creates and the coordinator ships to the site. It is
approved by its SHA-256: any change to any file makes it another bundle.
"""

from __future__ import annotations

import hashlib
import io
import posixpath
import re
import tomllib
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from client.policy.bundle_identity import is_safe_name
from common.errors import UsageError
from common.flower.bundle_signature import bundle_name

MAX_BUNDLE_BYTES = 10 * 2**20
"""Flower's limit for the zip file."""
MAX_UNPACKED_BYTES = 100 * 2**20
MAX_FILES = 2000
MAX_NAME = 255
"""Longest path of a file."""

_OBJECT = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}:[A-Za-z_][A-Za-z0-9_.]{0,63}")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_SHOWN = 80

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
        UsageError: if it is missing, too large or no bundle, or a name in it could deceive a
            reader.
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
        client_app = project["tool"]["flwr"]["app"]["components"]["clientapp"]
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, RuntimeError, OSError) as problem:
        raise UsageError(f"{path} is not an app bundle; make one with `flwr build`") from problem
    _check_names(path, (name, str(client_app), *contents))
    if not is_safe_name(name):
        raise UsageError(f"{path} is called {name[:_SHOWN]!a}, which no site accepts as a name")
    if not isinstance(client_app, str) or not _OBJECT.fullmatch(client_app):
        raise UsageError(f"{path} runs {str(client_app)[:_SHOWN]!a}, which is no module:object")
    files = tuple(
        BundleFile(one, len(content), hashlib.sha256(content).hexdigest())
        for one, content in sorted(contents.items())
    )
    digest = hashlib.sha256(data).hexdigest()
    remarks = (*_remark_on_app(client_app, contents), *_remarks(contents))
    return BundleContents(digest, name, client_app, files, remarks, data)


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
    """Refuse names that could overwrite, imitate or push away other lines on the screen."""
    for name in names:
        short = name[:_SHOWN]
        if not name.isprintable():  # !a: no control character reaches the terminal
            raise UsageError(f"{path} holds a name with control characters, {short!a}")
        if len(name) > MAX_NAME or "  " in name or name != name.strip():
            raise UsageError(
                f"{path} holds a name of {len(name)} characters or with spaces side by side, "
                f"{short!a}"
            )


def _remark_on_app(client_app: str, files: Mapping[str, bytes]) -> Iterator[str]:
    module = client_app.partition(":")[0].replace(".", "/")
    if not {f"{module}.py", f"{module}/__init__.py"} & files.keys():
        yield f"{client_app}: this module is not in the bundle"


def _remarks(files: Mapping[str, bytes]) -> Iterator[str]:
    """Yield what an approver should look at, a line each."""
    spelled: dict[str, str] = {}
    for path, content in sorted(files.items()):
        first = spelled.setdefault(_same_file(path), path)
        if first != path:
            yield f"{path}: unpacks to the same file as {first}, at least on some machines"
        if not path.isascii():
            yield f"{path}: has letters that may look like others, {path!a}"
        if not _inside(path):
            yield f"{path}: leads out of the bundle's folder"
        if PurePosixPath(path).suffix.lower() not in CODE_AND_TEXT or not _is_text(content):
            yield f"{path}: neither Python nor text"


def _same_file(path: str) -> str:
    """Return one spelling of a path for all that a file system may take for the same file."""
    return unicodedata.normalize("NFKC", posixpath.normpath(path)).casefold()


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return _CONTROL.search(content) is None


def _inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts and "\\" not in path
