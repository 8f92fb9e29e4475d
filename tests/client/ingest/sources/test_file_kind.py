"""Files that are not what their names say, and encodings and packings of those that are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources import file_kind
from client.ingest.sources.open_file import open_file
from client.ingest.sources.text import byte_streams
from common.errors import FedvitalsError, SourceError, UsageError
from tests.client.ingest.hospital import HEADER, hours_of, long_mapping, run, write_rows

ROWS = [
    *hours_of("a", "1", {0: "80", 2: "82"}),
    ("a", "1", "2024-03-01 03:00", "T", "36.6", "°C"),
    *hours_of("b", "2", {1: "", 3: "90.5"}),
]
TEXT = "\n".join([",".join(HEADER), *(",".join(row) for row in ROWS)]) + "\n"


def site_table(folder: Path) -> bytes:
    return (folder / "sites" / "st-mary.parquet").read_bytes()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The site table of a plain file."""
    folder = tmp_path_factory.mktemp("expected")
    run(long_mapping(folder), [write_rows(folder / "e.csv", ROWS)], folder / "out")
    return site_table(folder / "out")


def rows_of(path: Path) -> list[dict[str, object]]:
    source = open_file(path, FileFormat(), wanted=HEADER)
    rows = pa.Table.from_batches(source.batches(list(source.types))).to_pylist()
    return list(rows)


def zipped(text: str, name: str = "t.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._t.csv", "x")
        archive.writestr(name, text)
    return buffer.getvalue()


def zstd(data: bytes) -> bytes:
    sink = io.BytesIO()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
        out.flush()
        packed = pa.compress(data, codec="zstd", asbytes=True)
    return bytes(packed)


READABLE: dict[str, bytes] = {
    "utf-8 with BOM": TEXT.encode("utf-8-sig"),
    "utf-16 with BOM": TEXT.encode("utf-16"),
    "utf-16-le": TEXT.encode("utf-16-le"),
    "utf-16-be": TEXT.encode("utf-16-be"),
    "utf-32": TEXT.encode("utf-32"),
    "utf-16 and Windows line ends": TEXT.replace("\n", "\r\n").encode("utf-16"),
    "cp1252": TEXT.encode("cp1252"),
    "Mac line ends": TEXT.replace("\n", "\r").encode(),
    "blank lines at the top": f"\n\n{TEXT}".encode(),
    "semicolons": TEXT.replace(",", ";").encode(),
    "tabs": TEXT.replace(",", "\t").encode(),
    "vertical bars": TEXT.replace(",", "|").encode(),
    "gzip": gzip.compress(TEXT.encode()),
    "gzip of utf-16": gzip.compress(TEXT.encode("utf-16")),
    "bzip2": bz2.compress(TEXT.encode()),
    "xz": lzma.compress(TEXT.encode()),
    "zstd": zstd(TEXT.encode()),
    "zip": zipped(TEXT),
}


@pytest.mark.parametrize("kind", READABLE)
def test_a_file_is_read_as_what_it_is(tmp_path: Path, expected: bytes, kind: str) -> None:
    path, other = tmp_path / "t.csv", tmp_path / "t.parquet"
    path.write_bytes(READABLE[kind])
    record = run(long_mapping(tmp_path), [path], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected
    assert record["inputs"][0]["bytes"] == len(READABLE[kind])
    shutil.copy(path, other)
    assert rows_of(other) == rows_of(path)


@pytest.mark.parametrize("stated", ["utf-8", "cp1252", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("kind", ["utf-8 with BOM", "utf-16-le", "gzip"])
def test_a_stated_encoding_that_cannot_be(
    tmp_path: Path, expected: bytes, kind: str, stated: str
) -> None:
    ascii_only = TEXT.replace("°C", "C")
    data = READABLE[kind] if kind != "gzip" else gzip.compress(ascii_only.encode())
    (tmp_path / "t.csv").write_bytes(data)
    mapping = long_mapping(tmp_path, more=f'[file]\nencoding = "{stated}"\n')
    run(mapping, [tmp_path / "t.csv"], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected


def test_blocks_change_nothing(
    tmp_path: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(byte_streams, "_BLOCK_BYTES", 7)
    (tmp_path / "t.csv").write_bytes(TEXT.replace("\n", "\r").encode("utf-16"))
    run(long_mapping(tmp_path), [tmp_path / "t.csv"], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected


def as_zip(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, "a,b\n")
    return buffer.getvalue()


REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", r"is empty \(0 bytes\)"),
    "blank": (b" \n\n", "has no lines"),
    "header only": (TEXT.partition("\n")[0].encode(), "a header and no row"),
    "HTML": (b"<html><table><tr><td>1</td></tr></table></html>", r"is a web page \(HTML\)"),
    "XML": (b'<?xml version="1.0"?><Workbook/>', "is an XML file"),
    "JSON": (b'[{"pid": 1}]', "is a JSON file"),
    "PDF": (b"%PDF-1.7 ...", "is a PDF document"),
    "SQLite": (b"SQLite format 3\0 ...", r"is an SQLite database; give it as database"),
    "Word": (as_zip("word/document.xml"), "is a Word or PowerPoint document"),
    "zip of two": (as_zip("a.csv", "b.csv"), "is a zip archive of 2 files; unpack it"),
    "empty zip": (as_zip(), "is a zip archive of 0 files"),
    "cut zip": (zipped(TEXT)[:80], "is a damaged zip or .xlsx file"),
    "cut bzip2": (bz2.compress(TEXT.encode())[:-20], r"damaged.*bzip2.*cut off"),
    "cut xz": (lzma.compress(TEXT.encode())[:-20], r"damaged.*xz.*cut off"),
    "cut zstd": (zstd(TEXT.encode())[:-20], r"damaged.*zstd.*cut off"),
    "gzip of gzip": (gzip.compress(gzip.compress(TEXT.encode())), "another packed file"),
    "random": (bytes(range(256)) * 20, "is a binary file of an unknown kind; supported are"),
    "OLE": (bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 600, "cannot be read as a workbook"),
    "zip of xl": (as_zip("xl/workbook.xml"), "cannot be read as a workbook"),
    "damaged Parquet": (b"PAR1 no", "cannot be read as Parquet"),
    "a title line": (f"Export of ward 3\n{TEXT}".encode(), "set header-row = 2"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, kind: str) -> None:
    data, message = REFUSED[kind]
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(FedvitalsError, match=message) as caught:
        run(long_mapping(tmp_path), [tmp_path / "t.csv"], tmp_path / "out")
    assert "\0" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress, zstd, gzip.compress])
def test_a_long_file_that_is_cut_off(
    tmp_path: Path, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_kind, "SAMPLE_BYTES", 500)
    rows = [
        row for n in range(99) for row in hours_of(str(n), str(n), dict.fromkeys(range(9), str(n)))
    ]
    data = pack(write_rows(tmp_path / "t.csv", rows).read_bytes())
    (tmp_path / "t.csv").write_bytes(data[: -len(data) // 20])
    with pytest.raises(SourceError, match=r"t\.csv is damaged"):
        run(long_mapping(tmp_path), [tmp_path / "t.csv"], tmp_path / "out")


def test_a_header_row_that_is_given(tmp_path: Path, expected: bytes) -> None:
    (tmp_path / "t.csv").write_text(f"Export of ward 3\n\n{TEXT}")
    mapping = long_mapping(tmp_path, more="[file]\nheader-row = 3\n")
    run(mapping, [tmp_path / "t.csv"], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected


def test_delimiters_that_are_wrong_or_ambiguous(tmp_path: Path, expected: bytes) -> None:
    (tmp_path / "t.csv").write_text(TEXT.replace(",", ";"))
    mapping = long_mapping(tmp_path, more='[file]\ndelimiter = "|"\n')
    with pytest.raises(UsageError, match=r"no vertical bar.*is cut by a semicolon"):
        run(mapping, [tmp_path / "t.csv"], tmp_path / "out")
    # The mapping's columns decide.
    lines = [f"{line};x,y" for line in TEXT.replace(",", ";").splitlines()]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    run(long_mapping(tmp_path), [tmp_path / "t.csv"], tmp_path / "out")
    assert site_table(tmp_path / "out") == expected
    (tmp_path / "t.csv").write_text("a,b;c\n1,2;3\n")
    with pytest.raises(UsageError, match=r"comma and semicolon.*set delimiter"):
        run(long_mapping(tmp_path), [tmp_path / "t.csv"], tmp_path / "out")


def test_a_table_of_stays_has_a_format_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TEXT)
    stays = "pid;enc;in;name\na;1;2024-03-01;x, y\nb;2;2024-03-01;z\n"
    (tmp_path / "stays.csv").write_bytes(stays.encode("utf-16"))
    own = 'table = "stays.csv"\nid = "enc"\nstart = "in"\n'
    for more in ("", 'file = { delimiter = ";" }\n'):
        mapping = long_mapping(tmp_path, stay=own + more, more='[file]\ndelimiter = ","\n')
        record = run(mapping, [tmp_path / "t.csv"], tmp_path / "out", overwrite=True)
        assert record["table"]["patients"] == 2


def test_one_file_per_patient(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        (tmp_path / f"{name}.psv").write_text("at|what|result\n2024-03-01|HR|80\n")
    mapping = long_mapping(
        tmp_path,
        stay="gap-hours = 24",
        more='[file]\nname-column = "file"\n',
        replaced={'patient = "pid"': 'patient = "file"', 'unit = "unit"\n': ""},
    )
    record = run(mapping, [tmp_path / "p1.psv", tmp_path / "p2.psv"], tmp_path / "out")
    assert record["table"]["patients"] == 2


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


DAMAGED: dict[str, bytes] = {
    "gzip": gzip.compress(TEXT.encode())[:10] + b"\xff" * 40,
    "zip of another version": flipped(zipped(TEXT), zipped(TEXT).rindex(b"PK\x01\x02") + 6),
    "carriage return within a line": TEXT.replace("80", "8\r0", 1).encode("utf-16"),
    "one endless field": gzip.compress(b"a" * (1 << 20)),
    "one endless line": gzip.compress(TEXT.encode() + b"x" * (1 << 25)),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_damaged_bytes_end_with_one_line_that_quotes_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(FedvitalsError) as caught:
        source = open_file(path, FileFormat())
        for _ in source.batches(list(source.types)):
            pass
    assert str(path) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    assert "published" not in str(caught.value)


def test_a_zip_message_quotes_no_bytes_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    data = zipped("Miller,80\n" * 9, "Miller.csv")
    path.write_bytes(data.replace(b"Miller.csv", b"Smith_.csv", 1))
    with pytest.raises(SourceError) as caught:
        open_file(path, FileFormat())
    assert "Smith" not in str(caught.value)
