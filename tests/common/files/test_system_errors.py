from __future__ import annotations

import errno
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file

from common.files.system_errors import OperatingSystemError, is_interrupt, system_error


def failure(work: Callable[[], object]) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each library has its own
        work()
    return caught.value


@pytest.fixture
def no_room() -> Iterator[None]:
    """Limit the size of files, as a full disk does: the system's number is another."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def copy_in_duckdb(target: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"copy (select range from range(100000)) to '{target}'")


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize(
    "write",
    [
        lambda target: target.write_bytes(b"x" * 100_000),
        lambda target: pq.write_table(pa.table({"a": list(range(10_000))}), target),
        lambda target: save_file({"a": np.zeros(10_000)}, target),
        copy_in_duckdb,
    ],
    ids=["a file", "parquet", "safetensors", "duckdb"],
)
def test_a_file_that_cannot_grow_is_known_from_every_library(
    write: Callable[[Path], object], tmp_path: Path
) -> None:
    shown = system_error(failure(lambda: write(tmp_path / "file")))
    assert "ile too large" in str(shown)
    assert "allow larger files" in str(shown)


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
