"""Byte streams of text files: unpacked, converted to UTF-8 or left as they are, with line ends.

Everything is streamed; memory is bounded by one block.
"""

from __future__ import annotations

import bz2
import codecs
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
from isal import igzip, igzip_lib

_BLOCK_BYTES = 1 << 20

GZIP, BZIP2, XZ, ZSTD, ZIP = "gzip", "bzip2", "xz", "zstd", "zip"

UNPACK_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    zlib.error,
    cast(type[Exception], igzip_lib.IsalError),
    lzma.LZMAError,
    zipfile.BadZipFile,
    # A zip archive: a method or version that Python does not read; a password.
    NotImplementedError,
    RuntimeError,
)
"""Errors of the readers of damaged packed files, besides EOFError for one that is cut off."""

ZIP_ENTRY_ERRORS: tuple[type[Exception], ...] = (*UNPACK_ERRORS, EOFError, KeyError)
"""Errors of reading an entry of a zip archive; KeyError: it is absent."""


def unpacked(raw: io.RawIOBase, packing: str, path: Path) -> io.BufferedIOBase:
    """Return the content of a file that may be compressed.

    Args:
        raw: the open file, at its start.
        packing: how it is packed; empty = not at all.
        path: the file's path; a zip archive, which is not read from its start, is opened by it.
    """
    if packing == GZIP:
        return cast(io.BufferedIOBase, igzip.open(raw, "rb"))  # type: ignore[no-untyped-call]
    if packing == BZIP2:
        return cast(io.BufferedIOBase, bz2.open(cast(Any, raw), "rb"))
    if packing == XZ:
        return cast(io.BufferedIOBase, lzma.open(cast(Any, raw), "rb"))
    if packing == ZSTD:
        return io.BufferedReader(cast(Any, _Zstd(raw)), _BLOCK_BYTES)
    if packing == ZIP:
        archive = zipfile.ZipFile(path)
        return io.BufferedReader(cast(Any, archive.open(zip_tables(archive)[0])), _BLOCK_BYTES)
    return io.BufferedReader(raw, _BLOCK_BYTES)


def zip_tables(archive: zipfile.ZipFile) -> list[str]:
    """Return the names of an archive's files without those that macOS adds."""
    names = (entry.filename for entry in archive.infolist() if not entry.is_dir())
    return [name for name in names if not name.startswith("__MACOSX/")]


class _Zstd(io.RawIOBase):
    """Unpacked zstd; a stream that ends early raises EOFError, as those of other packings do."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with memoryview(buffer) as view:
            try:
                data = self._stream.read(len(view))
            except OSError as error:
                if "end" in str(error).lower() or "truncated" in str(error).lower():
                    raise EOFError(str(error)) from error
                raise
            view[: len(data)] = data
            return len(data)


def converted(content: io.BufferedIOBase, encoding: str, mac_lines: bool) -> io.BufferedIOBase:
    """Return a text with converted encoding and line ends.

    Args:
        content: the text's bytes.
        encoding: converted to UTF-8 from this; empty = not converted.
        mac_lines: whether lines end in a carriage return alone.
    """
    steps: list[Callable[[bytes, bool], bytes]] = []
    if encoding:
        decoder = codecs.getincrementaldecoder(encoding)()
        steps.append(lambda data, final: decoder.decode(data, final).encode())
    if mac_lines:
        steps.append(lambda data, _: data.replace(b"\r", b"\n"))
    return io.BufferedReader(cast(Any, _Rewritten(content, steps)), _BLOCK_BYTES)


class _Rewritten(io.RawIOBase):
    def __init__(
        self, content: io.BufferedIOBase, steps: list[Callable[[bytes, bool], bytes]]
    ) -> None:
        super().__init__()
        self._content = content
        self._steps = steps
        self._held = memoryview(b"")
        self._is_done = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held and not self._is_done:
            try:
                data = self._content.read(_BLOCK_BYTES)
            except UNPACK_ERRORS as error:
                raise OSError(str(error)) from error
            self._is_done = not data
            for step in self._steps:
                try:
                    data = step(data, self._is_done)
                except UnicodeDecodeError as error:
                    raise OSError(f"it is not {error.encoding}: {error.reason}") from error
            self._held = memoryview(data)
        with memoryview(buffer) as view:
            count = min(len(view), len(self._held))
            view[:count] = self._held[:count]
        self._held = self._held[count:]
        return count
