"""Kind of a file by its bytes: hospitals' files are often not what their names say.

A file of a kind that is not supported ends with one line that names the kind and the remedy.
"""

from __future__ import annotations

import codecs
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from client.ingest.sources.text.byte_streams import (
    BZIP2,
    GZIP,
    UNPACK_ERRORS,
    XZ,
    ZIP,
    ZSTD,
    unpacked,
    zip_tables,
)
from common.errors import SourceError

SAMPLE_BYTES = 1 << 18
"""Unpacked bytes that a file's kind, encoding and delimiter are found from."""

TEXT_FILE, PARQUET_FILE, WORKBOOK, NDJSON_FILE = "text", "parquet", "workbook", "ndjson"

SUPPORTED = (
    "CSV or other delimited text (plain, gzip, bzip2, xz, zstd or zip), NDJSON, Parquet, and Excel "
    "or OpenDocument workbooks (.xlsx, .xlsb, .xls, .ods)"
)

_PACKINGS = {
    b"\x1f\x8b": GZIP,
    b"BZh": BZIP2,
    b"\xfd7zXZ\x00": XZ,
    b"\x28\xb5\x2f\xfd": ZSTD,
}
_ZIP_START = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_OLE_START = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_EXPORT = "export the table as CSV, Parquet or .xlsx"
_REFUSED = {
    b"%PDF": ("a PDF document", _EXPORT),
    b"SQLite format 3\x00": (
        "an SQLite database",
        "give it as database in [source], with a query (deploy/site/mapping.sql.toml)",
    ),
    b"ARROW1": ("an Arrow or Feather file", "write it as Parquet"),
    b"ORC": ("an ORC file", "write it as Parquet"),
    b"{\\rtf": ("a document (RTF)", _EXPORT),
    b"$FL2": ("an SPSS file", _EXPORT),
    b"<stata_dta>": ("a Stata file", _EXPORT),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", "unpack it first"),
    b"Rar!": ("a RAR archive", "unpack it first"),
    b"\x89PNG": ("an image", _EXPORT),
    b"\xff\xd8\xff": ("an image", _EXPORT),
}
_SAS = bytes.fromhex("c2ea8160b31411cfbd92080009c7318c181f1011")
_HTML = re.compile(rb"\s*<(!doctype html|html|head|meta|table|body|style|div)\b", re.IGNORECASE)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    # Before UTF-16, whose mark is the start of this one.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROL = bytes(set(range(32)) - set(b"\t\n\r\f\x1a\x1b"))


@dataclass(frozen=True)
class FileKind:
    """Kind, packing and encoding of a file, as its bytes show them.

    Attributes:
        kind: `TEXT_FILE`, `NDJSON_FILE`, `PARQUET_FILE` or `WORKBOOK`.
        packing: how a text is packed; empty = not at all.
        encoding: of a text, as far as its start shows it.
        sample: the first unpacked bytes of a text, as UTF-8 where it is UTF-16 or UTF-32.
    """

    kind: str
    packing: str = ""
    encoding: str = "utf-8"
    sample: bytes = b""

    @property
    def is_wide_encoding(self) -> bool:
        """True if a character takes two or four bytes: a byte is then no delimiter."""
        return self.encoding.startswith(("utf-16", "utf-32"))


def file_kind(path: Path) -> FileKind:
    """Find out what a file is from its first bytes.

    Raises:
        SourceError: it is absent, empty, damaged, or of a kind that is not supported.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    if not start:
        raise SourceError(f"{path} is empty (0 bytes); export the table again")
    if start.startswith(b"PAR1"):
        return FileKind(PARQUET_FILE)
    if start.startswith(_OLE_START):
        return FileKind(WORKBOOK)
    if start.startswith((_ZIP_START, _EMPTY_ZIP)):
        return _zip_kind(path)
    packing = next((name for magic, name in _PACKINGS.items() if start.startswith(magic)), "")
    return _text_kind(path, packing)


def _zip_kind(path: Path) -> FileKind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if {"xl/workbook.xml", "xl/workbook.bin", "content.xml"} & names:
                return FileKind(WORKBOOK)
            tables = zip_tables(archive)
            encrypted = any(entry.flag_bits & 1 for entry in archive.infolist())
    except UNPACK_ERRORS as error:
        raise SourceError(
            f"{path} is a damaged zip or .xlsx file ({_reason(error)}); copy or export it again"
        ) from error
    if "word/document.xml" in names or "ppt/presentation.xml" in names:
        raise _unsupported(path, "a Word or PowerPoint document", _EXPORT)
    if len(tables) != 1 or encrypted:
        what = "with a password" if encrypted else f"of {len(tables)} files"
        raise _unsupported(path, f"a zip archive {what}", "unpack it and give one file")
    return _text_kind(path, ZIP)


def _text_kind(path: Path, packing: str) -> FileKind:
    sample = _sample(path, packing)
    packed = f"{packing} of " if packing else ""
    if not sample.strip():
        raise SourceError(f"{path} has no lines ({packed or 'it is '}blanks); export it again")
    for magic, (what, remedy) in _REFUSED.items():
        if sample.startswith(magic):
            raise _unsupported(path, packed + what, remedy)
    if packing and sample.startswith((b"PAR1", _ZIP_START, _OLE_START, *_PACKINGS)):
        raise _unsupported(path, f"{packed}another packed file", "unpack it first")
    if _SAS in sample[:64]:
        raise _unsupported(path, "a SAS data set", _EXPORT)
    encoding = _encoding(sample)
    readable = _readable(sample, encoding)
    if _starts_with_object(readable):
        return FileKind(NDJSON_FILE, packing, encoding, readable)
    kind = FileKind(TEXT_FILE, packing, encoding, readable)
    _refuse_other_text(path, kind)
    return kind


def _sample(path: Path, packing: str) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            stream = unpacked(file, packing, path)
            parts, size = [], 0
            while size < SAMPLE_BYTES and (part := stream.read(SAMPLE_BYTES - size)):
                parts.append(part)
                size += len(part)
            return b"".join(parts)
    except EOFError:
        # A short file that is cut off: the pass over it says so.
        raise SourceError(
            f"{path} is damaged: it ends before its {packing} stream does (cut off); copy or "
            "export it again"
        ) from None
    except UNPACK_ERRORS as error:
        raise SourceError(
            f"{path} cannot be unpacked as {packing or 'a file'}: {_reason(error)}; copy or "
            "export it again"
        ) from error


def _encoding(sample: bytes) -> str:
    for mark, encoding in _BOMS:
        if sample.startswith(mark):
            return encoding
    even, odd = sample[0:4096:2], sample[1:4096:2]
    # ASCII characters of UTF-16 have a zero byte each; other texts have none.
    if odd.count(0) > 0.3 * len(odd) and even.count(0) < 0.05 * len(even):
        return "utf-16-le"
    if even.count(0) > 0.3 * len(even) and odd.count(0) < 0.05 * len(odd):
        return "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        # Five bytes have no meaning in cp1252; a text with them is not of Windows.
        return "latin-1" if set(b"\x81\x8d\x8f\x90\x9d") & set(sample) else "cp1252"
    return "utf-8"


def _readable(sample: bytes, encoding: str) -> bytes:
    if encoding == "utf-8-sig":
        return sample.removeprefix(codecs.BOM_UTF8)
    if not encoding.startswith(("utf-16", "utf-32")):
        return sample
    # The sample may end within a character.
    return codecs.getincrementaldecoder(encoding)("replace").decode(sample).encode()


def _starts_with_object(text: bytes) -> bool:
    """Return whether the first line is a JSON object of its own."""
    try:
        return isinstance(json.loads(text.lstrip().split(b"\n", 1)[0]), dict)
    except ValueError:
        return False


def _refuse_other_text(path: Path, kind: FileKind) -> None:
    text = kind.sample
    if _HTML.match(text):
        raise _unsupported(
            path,
            "a web page (HTML)",
            "if a system exported it as .xls, open it in a spreadsheet program and save it as "
            ".xlsx or CSV",
        )
    if text.lstrip().startswith(b"<?xml"):
        raise _unsupported(
            path, "an XML file", "open it in a spreadsheet program and save it as .xlsx or CSV"
        )
    if re.match(rb'\s*(\{\s*["}]|\[\s*[\[{"])', text):
        raise _unsupported(path, "a JSON file", f"{_EXPORT}, or as NDJSON, an object a line")
    controls = len(text) - len(text.translate(None, _CONTROL))
    if controls > 0.01 * len(text):
        raise SourceError(f"{path} is a binary file of an unknown kind; supported are: {SUPPORTED}")


def _reason(error: Exception) -> str:
    # Python's zip reader quotes bytes of the file, which may be a patient's.
    return str(error).partition(" and header b")[0]


def _unsupported(path: Path, what: str, remedy: str) -> SourceError:
    return SourceError(f"{path} is {what}; {remedy}")
