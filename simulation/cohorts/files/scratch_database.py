"""DuckDB database in a scratch folder: memory is bounded for tables of tens of millions of rows."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import duckdb

from common.errors import UsageError


class ScratchDatabase:
    """An open database; `close` removes it.

    Args:
        memory_gb: bound on DuckDB's memory, in gigabytes.

    Attributes:
        connection: the open connection.
        folder: the scratch folder.

    Raises:
        UsageError: `memory_gb` is not positive.
    """

    def __init__(self, memory_gb: float) -> None:
        if not memory_gb > 0:
            raise UsageError(f"the memory bound must be positive, got {memory_gb} GB")
        self.folder = Path(tempfile.mkdtemp(prefix="fedvitals-tables-"))
        self.connection = duckdb.connect(
            str(self.folder / "tables.duckdb"),
            config={
                "memory_limit": f"{memory_gb}GB",
                "temp_directory": str(self.folder / "spill"),
                # No query may depend on the order of rows in a file; dropping it saves memory.
                "preserve_insertion_order": False,
            },
        )

    def close(self) -> None:
        """Close the connection and remove the scratch folder."""
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)
