from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import SafetensorError

from common.files.system_errors import OperatingSystemError, is_interrupt, system_error

FULL = Path("/dev/full")
"""A device on which every write finds a full disk. Libraries that replace a file would replace it."""


def failure(work: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        work()
    return caught.value


@pytest.mark.skipif(not FULL.is_char_device(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "work",
    [
        lambda: FULL.write_bytes(b"x" * 100_000),
        lambda: pq.write_table(pa.table({"a": list(range(10_000))}), FULL),
    ],
    ids=["a file", "parquet"],
)
def test_a_full_disk_is_known_from_every_library(work: Callable[[], object]) -> None:
    check_full(failure(work))


def test_a_full_disk_is_known_from_the_text_of_an_exception() -> None:
    check_full(duckdb.IOException('IO Error: Could not write file "t": No space left on device'))
    check_full(SafetensorError("I/O error: No space left on device (os error 28)"))


def check_full(error: BaseException) -> None:
    shown = system_error(error)
    assert isinstance(shown, OperatingSystemError), error
    assert shown.exit_code == 12
    assert "o space left on device" in str(shown)
    assert str(shown).endswith("; make room on that disk, or write to another")


def test_a_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    error = failure(lambda: (tmp_path / "absent").read_text())
    assert (
        str(system_error(error))
        == f"{tmp_path / 'absent'}: No such file or directory; check the path"
    )


def test_the_cause_of_an_exception_counts() -> None:
    outer = ValueError("the table")
    outer.__cause__ = OSError(errno.ENOSPC, "No space left on device", "a.parquet")
    assert "a.parquet: No space left" in str(system_error(outer))


def test_too_little_memory_is_said() -> None:
    assert "not enough memory" in str(system_error(MemoryError()))
    with duckdb.connect() as connection:
        connection.execute("set memory_limit = '1MB'; set temp_directory = ''")
        query = "select count(*) from (select distinct range from range(10000000))"
        assert "not enough memory" in str(system_error(failure(lambda: connection.execute(query))))


def test_a_defect_is_none_of_them() -> None:
    assert system_error(TypeError("unsupported operand")) is None


def test_ctrl_c_is_known_from_duckdb_too() -> None:
    assert is_interrupt(KeyboardInterrupt())
    assert is_interrupt(duckdb.InterruptException("INTERRUPT Error: Interrupted!"))
    assert is_interrupt(RuntimeError("Query interrupted"))
    assert not is_interrupt(RuntimeError("the query was interrupted by a defect"))
