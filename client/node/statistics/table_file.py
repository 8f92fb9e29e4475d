"""The site table as the node reads it for statistics: bounded, and the same before and after.

The node reads the table for statistics alone. A file that is replaced while it is read is refused,
so that the digest in the audit log is that of the rows that were counted.
"""

from __future__ import annotations

from pathlib import Path

from client.policy.refusal import RefusedError
from common.data.site_table import SiteTable, read_site_table
from common.errors import SiteTableError
from common.files.hashing import file_sha256

MAX_BYTES = 2 * 2**30
MAX_ROWS = 20_000_000
"""A row needs some 240 bytes of memory while it is read (measured with 1.5 million): 20 million
need about 5 GB. A node that has less is ended by the system, and sends nothing."""


class TableFile:
    """The site's table.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] | None = None
        self._digest = ""

    def digest(self) -> str:
        """Return the SHA-256 of the file, read again only after a change.

        Raises:
            RefusedError: if it cannot be read, or is too large.
        """
        stamp = self._status()
        if stamp != self._stamp:
            self._stamp = None
            try:
                self._digest = file_sha256(self._path)
            except OSError as problem:
                raise _unreadable(self._path, problem) from problem
            self._stamp = stamp
        return self._digest

    def read(self) -> SiteTable:
        """Read and validate the table.

        Raises:
            RefusedError: if it is too large, not a valid site table, or changed meanwhile.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        before = self.digest()
        try:
            rows = pq.read_metadata(self._path).num_rows
            if rows > MAX_ROWS:
                raise RefusedError("table", f"{rows} rows, at most {MAX_ROWS} are counted")
            table = read_site_table(self._path)
        except (OSError, pa.ArrowException) as problem:
            raise _unreadable(self._path, problem) from problem
        except SiteTableError as problem:
            raise RefusedError("table", str(problem)) from problem
        if file_sha256(self._path) != before:
            raise RefusedError("table", f"{self._path} was replaced while it was read")
        return table

    def _status(self) -> tuple[int, ...]:
        try:
            status = self._path.stat()
        except OSError as problem:
            raise _unreadable(self._path, problem) from problem
        if not self._path.is_file():
            raise RefusedError("table", f"{self._path} is no file")
        if status.st_size > MAX_BYTES:
            raise RefusedError("table", f"{status.st_size} bytes, at most {MAX_BYTES} are read")
        return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


def _unreadable(path: Path, problem: Exception) -> RefusedError:
    reason = getattr(problem, "strerror", None) or type(problem).__name__
    return RefusedError(
        "table", f"the node cannot read {path} ({reason}); statistics need that, see policy.toml"
    )
