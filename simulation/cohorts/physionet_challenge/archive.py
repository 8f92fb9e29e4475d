"""Reader of a challenge's records, from a tar archive or an unpacked folder.

Both give the same records, sorted by name. A tar archive is read once, unpacked in memory and
hashed in the same pass; a truncated or damaged one is an error, never a silently smaller cohort.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol, cast

from common.errors import SourceError
from common.files.hashing import HashingReader, ReadProgress
from simulation.cohorts.files.published_folder import PublishedSums, files_below

_TAR_BLOCK = 512
_READ_BYTES = 1 << 20
_DECOMPRESSORS: dict[bytes, Callable[[IO[bytes]], _Readable]] = {
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
}
_DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error, tarfile.TarError)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class RecordKind:
    """File names of a challenge's records.

    Attributes:
        file_name: pattern of a record's whole file name.
        description: the pattern in words, for messages.
    """

    file_name: re.Pattern[str]
    description: str

    def matches(self, name: str) -> bool:
        """Return whether a file of this name is a record."""
        return self.file_name.fullmatch(name) is not None


@dataclass(frozen=True)
class StayRecord:
    """One stay's file.

    Attributes:
        path: relative to the source, with forward slashes.
        content: the file's bytes.
    """

    path: str
    content: bytes

    @property
    def name(self) -> str:
        """File name without its suffix: the challenge's id of the stay."""
        return PurePosixPath(self.path).stem


def read_records(
    sources: Sequence[Path], kind: RecordKind, progress: ReadProgress | None = None
) -> tuple[list[StayRecord], dict[str, dict[str, Any]]]:
    """Read all records of a challenge.

    Args:
        sources: each a tar archive (plain, .gz, .bz2 or .xz, detected by content) or a folder; the
            records may be in folders within it, beside other files.
        kind: file names of records.
        progress: called as a source is read, with the bytes read of it and its size.

    Returns:
        The records sorted by name; and by each source's name its size in bytes and SHA-256, of the
        archive, or of all records' paths and contents in a folder.

    Raises:
        SourceError: a source is absent, is not a tar archive, is damaged or has no record; a
            record occurs twice, or two sources have one name; a file is not the published one, or
            is absent.
    """
    records: list[tuple[StayRecord, Path]] = []
    digests: dict[str, dict[str, Any]] = {}
    for source in sources:
        name = source.resolve().name
        if name in digests:
            raise SourceError(f"two sources are called {name}; rename one, or give it once")
        found, digests[name] = _read_source(source, kind, progress)
        records += ((record, source) for record in found)
    records.sort(key=lambda found: (found[0].name, found[0].path))
    for (first, where), (second, other) in pairwise(records):
        if first.name == second.name:
            place = f"{where} holds" if where == other else f"{where} and {other} hold"
            raise SourceError(
                f"{place} the record {first.name} twice, as {first.path} and as {second.path}; "
                "leave one of them"
            )
    return [record for record, _ in records], digests


def _read_source(
    source: Path, kind: RecordKind, progress: ReadProgress | None
) -> tuple[list[StayRecord], dict[str, Any]]:
    if source.is_dir():
        records, digest = _read_folder(source, kind, progress)
    elif source.is_file():
        records, digest = _read_archive(source, kind, progress)
    else:
        raise SourceError(f"there is no {source}; give the challenge's archive or its folder")
    if not records:
        raise SourceError(f"{source} holds no record; looked for {kind.description}")
    return records, digest


def _read_folder(
    source: Path, kind: RecordKind, progress: ReadProgress | None
) -> tuple[list[StayRecord], dict[str, Any]]:
    records = []
    sums = PublishedSums(source)
    sums.check_complete(kind.matches)
    try:
        paths = sorted(files_below(source, kind.matches))
        total = sum(path.stat().st_size for path in paths) if progress is not None else 0
        done = 0
        for path in paths:
            content = path.read_bytes()
            sums.check(path, sha256(content).hexdigest())
            records.append(StayRecord(path.relative_to(source).as_posix(), content))
            done += len(content)
            if progress is not None:
                progress(done, total)
    except OSError as error:
        raise SourceError(f"{source} cannot be read: {error}") from error
    return records, _folder_digest(records)


def _folder_digest(records: Iterable[StayRecord]) -> dict[str, Any]:
    digest = sha256()
    size = 0
    for record in sorted(records, key=lambda record: record.path):
        digest.update(f"{record.path}\0{len(record.content)}\0".encode(errors="surrogateescape"))
        digest.update(record.content)
        size += len(record.content)
    return {"bytes": size, "sha256": digest.hexdigest()}


def _read_archive(
    source: Path, kind: RecordKind, progress: ReadProgress | None
) -> tuple[list[StayRecord], dict[str, Any]]:
    records: list[StayRecord] = []
    opened = False
    try:
        with source.open("rb") as file:
            raw = HashingReader(file, source.stat().st_size, progress)
            buffered = io.BufferedReader(raw, _READ_BYTES)
            stream = _TarStream(_decompressed(cast(io.BufferedReader, buffered)))
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as tar:
                opened = True
                records.extend(_members(tar, kind, source))
                stream.check_end(tar.offset)
            digest = raw.finish()
    except PermissionError as error:
        raise SourceError(f"{source} cannot be read: {error.strerror}") from error
    except _DAMAGE as error:
        if isinstance(error, tarfile.ReadError) and not opened:
            raise SourceError(f"{source} is neither a tar archive nor a folder") from error
        raise SourceError(f"{source} is truncated or damaged ({error}); fetch it again") from error
    PublishedSums(source).check(source, digest["sha256"])
    return records, digest


def _decompressed(file: io.BufferedReader) -> _Readable:
    start = file.peek(max(map(len, _DECOMPRESSORS)))
    for magic, decompress in _DECOMPRESSORS.items():
        if start.startswith(magic):
            return decompress(file)
    return file


def _members(tar: tarfile.TarFile, kind: RecordKind, source: Path) -> Iterator[StayRecord]:
    for member in tar:
        path = PurePosixPath(member.name)
        if member.isdir() or not kind.matches(path.name):
            continue
        content = tar.extractfile(member) if member.isreg() else None
        if content is None:
            raise SourceError(f"{source}: {member.name} is a link; pack the files themselves")
        yield StayRecord(str(path), content.read())


class _TarStream:
    """Stream of a tar archive that detects damage which `tarfile` takes for the end.

    `tarfile` stops silently at a broken header and at missing closing zero blocks. This class
    records the position of the last nonzero byte, which reveals both.
    """

    def __init__(self, stream: _Readable) -> None:
        self._stream = stream
        self._position = 0
        self._content_end = 0

    def read(self, size: int) -> bytes:
        data = self._stream.read(size)
        content = data.rstrip(b"\0")
        if content:
            self._content_end = self._position + len(content)
        self._position += len(data)
        return data

    def check_end(self, offset: int) -> None:
        """Read to the end; raise `EOFError` unless only zeros, at least a block, follow `offset`.

        Reading to the end also makes the decompressor verify its checksum.
        """
        while self.read(_READ_BYTES):
            pass
        if self._content_end > offset:
            raise EOFError(f"broken header at byte {offset} of the unpacked archive")
        if self._position < offset + _TAR_BLOCK:
            raise EOFError("the end-of-archive mark is missing")
