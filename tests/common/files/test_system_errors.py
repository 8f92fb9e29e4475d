from __future__ import annotations

import errno
import os
import zipfile

import duckdb
import pyarrow as pa
import pytest
from safetensors import SafetensorError

from common.files.system_errors import describe_failure, is_closed_pipe


def failed(number: int, *names: str) -> OSError:
    if len(names) == 2:
        return OSError(number, os.strerror(number), names[0], None, names[1])
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            failed(errno.ENOSPC, "/data/t.parquet"),
            "/data/t.parquet: No space left on device; free space there, or give another folder",
        ),
        (
            failed(errno.EDQUOT, "/data/t"),
            "/data/t: Disk quota exceeded; free space there, or give another folder",
        ),
        (failed(errno.EROFS, "out"), "out: Read-only file system; give another folder"),
        (
            failed(errno.EACCES, "a", "b"),
            "a -> b: Permission denied; change its permissions, or give another folder",
        ),
        (failed(errno.ENOENT, "t.csv"), "t.csv: No such file or directory; check the path"),
        (failed(errno.EXDEV, "a"), "a: Invalid cross-device link"),
        (MemoryError(), "not enough memory; free memory, or use a machine with more"),
        (
            duckdb.IOException('Could not write file "x.duckdb": No space left on device'),
            "x.duckdb: No space left on device; free space there, or give another folder",
        ),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (28)"),
            "Error while serializing: I/O error: No space left on device (28); free space there, "
            "or give another folder",
        ),
        (
            pa.ArrowException("Cannot open x:\n Permission denied"),
            "Cannot open x: Permission denied; change its permissions, or give another folder",
        ),
        (ValueError("x"), None),
        (zipfile.BadZipFile("File is not a zip file"), None),
    ],
    ids=repr,
)
def test_a_failure_of_the_system_is_one_line(error: BaseException, line: str | None) -> None:
    assert describe_failure(error) == line


def test_a_failure_is_found_under_the_exceptions_raised_after_it() -> None:
    with pytest.raises(ValueError, match="closed") as caught:
        try:
            raise failed(errno.ENOSPC, "/data/t")
        except OSError as error:
            raise ValueError("closed") from error
    assert str(describe_failure(caught.value)).startswith("/data/t: No space left")


def test_without_a_name_the_full_folder_of_temporary_files_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert describe_failure(failed(errno.ENOSPC)) == (
        "No space left on device; free space there, or give another folder"
    )
    monkeypatch.setattr("common.files.system_errors._FULL_BYTES", 1 << 60)
    assert "(TMPDIR): No space left on device" in str(describe_failure(failed(errno.ENOSPC)))


def test_a_closed_pipe_is_one() -> None:
    assert is_closed_pipe(BrokenPipeError())
    assert not is_closed_pipe(failed(errno.ENOSPC))
