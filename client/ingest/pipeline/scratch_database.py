"""Database on disk in which an ingest works."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from common.files.atomic_io import PARTIAL_SUFFIX, real_folder


@contextmanager
def scratch_database(out: Path, memory_gb: float) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a database beside a folder to write, bounded in memory; it is removed afterwards."""
    # Beside `out`, on the disk that the site chose for its data, and readable by its owner alone:
    # it has patients' records, and a killed process leaves it behind.
    scratch = Path(
        tempfile.mkdtemp(prefix=f".{out.name}.", suffix=PARTIAL_SUFFIX, dir=real_folder(out).parent)
    )
    try:
        with duckdb.connect(
            str(scratch / "ingest.duckdb"),
            config={
                "memory_limit": f"{memory_gb}GB",
                "temp_directory": str(scratch / "spill"),
                # No query depends on the order of rows in a file; dropping it saves memory.
                "preserve_insertion_order": False,
                # Nothing is downloaded, and no extension of the user's is loaded.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        ) as connection:
            # An offset in a text is applied; a time without one is unchanged.
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
