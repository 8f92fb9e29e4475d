"""Interface of a table's file that is read once, whatever its format."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import pyarrow as pa


class TableStream(Protocol):
    """Stream of the rows of a table's file."""

    schema: pa.Schema
    """Schema of the batches, with lower-case names."""

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Read the file once and yield its rows."""

    def digest(self) -> dict[str, Any]:
        """Return `file`, `bytes` and `sha256` of the file, after `batches` is exhausted."""
