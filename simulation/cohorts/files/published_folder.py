"""Folder of a published data set: its tables' files, and their digests in SHA256SUMS.txt.

A `.csv` that ends too early at a line's end and a `.csv.gz` of several members that lacks the last
ones are valid files: only the published digest shows that rows are missing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from common.errors import SourceError

# A .csv.gz comes first because it carries a checksum: a .csv beside it may be half unpacked.
SUFFIXES = (".csv.gz", ".parquet", ".csv")
SUMS_FILE = "SHA256SUMS.txt"
_LEVELS_ABOVE = 2
_LARGEST_SUMS = 8 << 20
_SUMS_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


class PublishedSums:
    """Published digests of a download's files.

    Args:
        place: a folder or file of the download; `SUMS_FILE` is in it or in one of the folders
            above it. None is needed, and files that it does not list are not checked.

    Raises:
        SourceError: the file is not as `sha256sum` writes it.
    """

    def __init__(self, place: Path) -> None:
        self._place = _absolute(place)
        self._folder = self._place
        self._sums: dict[str, str] = {}
        for folder in (self._place, *self._place.parents[:_LEVELS_ABOVE]):
            if (folder / SUMS_FILE).is_file():
                self._folder, self._sums = folder, _read_sums(folder / SUMS_FILE)
                break

    def check(self, path: Path, sha256: str) -> None:
        """Compare a file that was read with its published digest, if there is one.

        Args:
            path: the file, in the place.
            sha256: its digest, lower-case hex.

        Raises:
            SourceError: the digests differ.
        """
        name = _absolute(path).relative_to(self._folder).as_posix()
        published = self._sums.get(name, sha256)
        if published != sha256:
            raise SourceError(
                f"{path} is not the published file: its SHA-256 is {sha256[:12]}..., but "
                f"{SUMS_FILE} has {published[:12]}... for {name}; download it again"
            )

    def check_complete(self, is_wanted: Callable[[str], bool]) -> None:
        """Refuse a place that lacks some of its published files.

        Args:
            is_wanted: whether a file of this name is read.

        Raises:
            SourceError: says how many are absent, and names the first.
        """
        files = (self._folder / name for name in sorted(self._sums))
        absent = [
            file
            for file in files
            if file.is_relative_to(self._place) and is_wanted(file.name) and not file.is_file()
        ]
        if absent:
            raise SourceError(
                f"{self._place} lacks {len(absent):,} of the files in {SUMS_FILE}, e.g. "
                f"{absent[0].relative_to(self._folder).as_posix()}; download it again"
            )


def _absolute(path: Path) -> Path:
    # Links stay, since the published names are those of the download's folders.
    return Path(os.path.normpath(path.absolute()))


def files_below(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Yield the files below a folder whose name is wanted, in linked folders too.

    Raises:
        OSError: a folder cannot be listed.
    """
    # By default os.walk skips linked folders and ignores those that it may not list.
    for inner, _, names in os.walk(folder, onerror=_raise, followlinks=True):
        yield from (Path(inner, name) for name in names if is_wanted(name))


def _raise(error: OSError) -> None:
    raise error


class PublishedFolder:
    """Files of a published data set.

    Args:
        folder: the folder.
        parts: its subfolders with the tables; none = the folder itself.
        data_set: name of the data set, for messages.

    Raises:
        SourceError: `folder` is not a folder, or its `SUMS_FILE` is not as `sha256sum` writes it.
    """

    def __init__(self, folder: Path, parts: Sequence[str], data_set: str) -> None:
        if not folder.is_dir():
            found = "is not a folder" if folder.exists() else "does not exist"
            raise SourceError(f"{folder} {found}; give the folder of the {data_set} tables")
        self._folder = folder
        self._parts = parts
        try:
            self._files = _files_by_name(folder, parts)
        except OSError as error:
            raise SourceError(f"{folder} cannot be read: {error}") from error
        self._sums = PublishedSums(folder)

    def find(self, table: str) -> Path | None:
        """Return the file of a table, the case of its name ignored; None if there is none."""
        return _file_of(self._files, table)

    def elsewhere(self, table: str) -> Path | None:
        """Return a neighbouring folder with the table, where the wrong level was given."""
        below = (path for path in sorted(self._folder.iterdir()) if path.is_dir())
        above = self._folder.resolve().parent
        for folder in (*below, above):
            try:
                files = _files_by_name(folder, self._parts)
            except OSError:
                continue
            if _file_of(files, table) is not None:
                return folder
        return None

    def check_digest(self, path: Path, sha256: str) -> None:
        """Compare a file that was read with its published digest, if there is one.

        Args:
            path: the file, as returned by `find`.
            sha256: its digest, lower-case hex.

        Raises:
            SourceError: the digests differ.
        """
        self._sums.check(path, sha256)


def _file_of(files: dict[str, Path], table: str) -> Path | None:
    names = [table.lower() + suffix for suffix in SUFFIXES]
    return next((files[name] for name in names if name in files), None)


def _files_by_name(folder: Path, parts: Iterable[str]) -> dict[str, Path]:
    """Return the files of the folder, or of its subfolders, by their names in lower case."""
    folders = [folder / name for name in parts] or [folder]
    return {
        path.name.lower(): path
        for each in folders
        if each.is_dir()
        for path in each.iterdir()
        if path.is_file()
    }


def _read_sums(path: Path) -> dict[str, str]:
    """Return the published digest of each file by its path below the folder; none if no file."""
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_SUMS:
        raise _unreadable(path, f"it is larger than {_LARGEST_SUMS >> 20} MiB")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    sums = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _SUMS_LINE.fullmatch(line.rstrip())
        if found is None:
            raise _unreadable(path, f"line {number} is not a SHA-256 and a file's name")
        sums[found[2].removeprefix("./")] = found[1].lower()
    return sums


def _unreadable(path: Path, reason: str) -> SourceError:
    return SourceError(f"{path} cannot be read: {reason}; download it again, or remove it")
