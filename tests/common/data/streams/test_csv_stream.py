from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from common.data.streams.csv_stream import CsvStream
from common.errors import SourceError

WHOLE = gzip.compress(b"a,b\n1,2\n", mtime=0)


@pytest.mark.parametrize(
    ("data", "what", "own"),
    [
        (b"a,b\n1,2\n", "is not a gzip file, though its name ends in .gz", "name it without .gz"),
        (b"PK\3\4 a zip", "is not a gzip file, though its name ends in .gz", "name it without .gz"),
        (WHOLE[:-6], "ends before its gzip stream does (cut off)", "export it again"),
        (b"", "is damaged: it is empty", "export it again"),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_a_file_that_is_no_whole_gzip_is_called_what_it_is(
    tmp_path: Path, data: bytes, what: str, own: str, published: bool
) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        list(CsvStream(path, "t", {"a": pa.string()}, published=published).batches())
    message = str(caught.value)
    assert what in message
    assert ("cut off" in message) == (data == WHOLE[:-6])
    # Only of a published file is there a published digest.
    assert ("the published one" in message) == published
    assert (own in message) != published
