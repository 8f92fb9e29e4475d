"""SHA-256 of files: of a whole file, and taken while a file is read once."""

from __future__ import annotations

import io
from collections.abc import Callable
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

ReadProgress = Callable[[int, int], None]
"""Called, from any thread, with the bytes read so far and the size of the file on disk."""

_READ_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def describe_file(path: Path) -> dict[str, Any]:
    """Return `file` (name), `bytes` and `sha256`, as records list their inputs."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


class HashingReader(io.RawIOBase):
    """Binary file that is hashed as it is read, with a progress callback.

    Args:
        file: an open file, at its start.
        total: its size in bytes, for `progress`.
        progress: called after each read.

    Attributes:
        count: bytes read so far.
    """

    def __init__(
        self, file: io.FileIO | io.BufferedReader, total: int, progress: ReadProgress | None
    ) -> None:
        super().__init__()
        self.count = 0
        self._file = file
        self._total = total
        self._progress = progress
        self._hash = sha256()

    def readable(self) -> bool:
        """Always true."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; return how many bytes were read, 0 at the end."""
        with memoryview(buffer) as view:
            count = self._file.readinto(view)
            self._hash.update(view[:count])
        self.count += count
        if self._progress is not None:
            self._progress(self.count, self._total)
        return count

    def finish(self) -> dict[str, Any]:
        """Read to the end; return `bytes` and `sha256` of the whole file."""
        while self.read(_READ_BYTES):
            pass
        return {"bytes": self.count, "sha256": self._hash.hexdigest()}
