from __future__ import annotations

import io
import re
import tarfile
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from common.errors import SourceError
from simulation.cohorts.physionet_challenge.archive import RecordKind, read_records

KIND = RecordKind(re.compile(r"[0-9]+\.txt"), "files named 1.txt")
FILES = {
    "README.txt": b"no record",
    "set-a/10.txt": b"ten\n" * 400,
    "set-a/2.txt": b"two\n",
    "set-b/deep/3.txt": b"",
    "set-b/._3.txt": b"left by a file manager",
}
Mode = Literal["w", "w:gz", "w:bz2", "w:xz"]


def pack(path: Path, files: dict[str, bytes], mode: Mode = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def unpack(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_gives_the_records_in_the_order_of_their_names(
    tmp_path: Path, mode: Mode
) -> None:
    path = pack(tmp_path / "source", dict(reversed(FILES.items())), mode)

    records, inputs = read_records([path], KIND)

    assert [record.path for record in records] == [
        "set-a/10.txt",
        "set-a/2.txt",
        "set-b/deep/3.txt",
    ]
    assert [record.name for record in records] == ["10", "2", "3"]
    assert [record.content for record in records] == [b"ten\n" * 400, b"two\n", b""]
    content = path.read_bytes()
    assert inputs == {
        "source": {"bytes": len(content), "sha256": sha256(content).hexdigest()},
    }


def test_a_folder_gives_the_same_records_as_an_archive(tmp_path: Path) -> None:
    from_archive, _ = read_records([pack(tmp_path / "a.tar", FILES)], KIND)
    from_folder, _ = read_records([unpack(tmp_path / "folder", FILES)], KIND)
    assert from_folder == from_archive


def test_several_sources_are_one_data_set(tmp_path: Path) -> None:
    first = pack(tmp_path / "a.tar", {"x/2.txt": b"two", "x/9.txt": b"nine"})
    second = unpack(tmp_path / "b", {"10.txt": b"ten"})
    records, inputs = read_records([first, second], KIND)
    assert [record.content for record in records] == [b"ten", b"two", b"nine"]
    assert sorted(inputs) == ["a.tar", "b"]


def test_a_record_or_a_name_in_two_sources_is_refused(tmp_path: Path) -> None:
    first = pack(tmp_path / "a.tar", {"x/2.txt": b"two"})
    second = pack(tmp_path / "b.tar", {"y/2.txt": b"two"})
    with pytest.raises(SourceError, match=r"a.tar and .*b.tar hold the record 2 twice"):
        read_records([first, second], KIND)
    with pytest.raises(SourceError, match=r"two sources are called a.tar"):
        read_records([first, first], KIND)


def test_a_folders_digest_tells_contents_and_names_and_nothing_else(tmp_path: Path) -> None:
    def digest(folder: str, files: dict[str, bytes]) -> object:
        _, inputs = read_records([unpack(tmp_path / folder / "x", files)], KIND)
        return inputs["x"]

    first = digest("0", FILES)
    assert digest("1", dict(reversed(FILES.items()))) == first
    assert digest("2", {**FILES, "README.txt": b"changed"}) == first
    assert digest("3", {**FILES, "set-a/2.txt": b"twO\n"}) != first
    moved = {name.replace("set-a/2", "set-a/4"): content for name, content in FILES.items()}
    assert digest("4", moved) != first


def test_the_folder_may_be_the_working_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(unpack(tmp_path / "here", FILES))
    records, inputs = read_records([Path()], KIND)
    assert len(records) == 3
    assert list(inputs) == ["here"]


def test_a_linked_folder_is_read(tmp_path: Path) -> None:
    unpack(tmp_path / "elsewhere", FILES)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "set-a").symlink_to(tmp_path / "elsewhere" / "set-a")
    records, _ = read_records([tmp_path / "source"], KIND)
    assert [record.name for record in records] == ["10", "2"]


@pytest.mark.parametrize("packed", [True, False])
def test_progress_ends_at_the_total(tmp_path: Path, packed: bool) -> None:
    source = pack(tmp_path / "a.tar.xz", FILES, "w:xz") if packed else unpack(tmp_path / "f", FILES)
    calls: list[tuple[int, int]] = []

    read_records([source], KIND, lambda done, total: calls.append((done, total)))

    total = source.stat().st_size if packed else 1604
    assert calls[-1] == (total, total)
    assert calls == sorted(calls)


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no .*nowhere"):
        read_records([tmp_path / "nowhere"], KIND)


@pytest.mark.parametrize(
    "content", [b"", b"Time,Parameter,Value\n" * 60, b"PK\x03\x04" + b"x" * 999]
)
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(SourceError, match="neither a tar archive nor a folder"):
        read_records([tmp_path / "file"], KIND)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, mode: Mode, share: float) -> None:
    random = Random(0)
    # Bytes that do not compress, so that the cut falls into the records whatever the mode.
    files = {f"{i}.txt": random.randbytes(5000) for i in range(20)}
    whole = pack(tmp_path / "whole", files, mode).read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(SourceError, match="truncated or damaged"):
        read_records([cut], KIND)


def test_an_archive_cut_between_two_records_is_refused(tmp_path: Path) -> None:
    whole = pack(tmp_path / "whole.tar", {"1.txt": b"one", "2.txt": b"two"}).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1024])  # the header and the block of 1.txt
    with pytest.raises(SourceError, match="end-of-archive mark is missing"):
        read_records([tmp_path / "cut.tar"], KIND)


def test_a_broken_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar", {"1.txt": b"one", "2.txt": b"two"})
    content = bytearray(path.read_bytes())
    content[1024 + 150] ^= 0xFF  # in the checksum of the header of 2.txt
    path.write_bytes(content)
    with pytest.raises(SourceError, match="broken header at byte 1024"):
        read_records([path], KIND)


def test_a_checksum_error_in_the_packed_stream_is_refused(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.tar.gz", FILES, "w:gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 0xFF  # gzip's checksum of the whole
    path.write_bytes(content)
    with pytest.raises(SourceError, match="truncated or damaged"):
        read_records([path], KIND)


@pytest.mark.parametrize("packed", [True, False])
def test_a_source_without_records_is_refused_and_says_what_was_looked_for(
    tmp_path: Path, packed: bool
) -> None:
    files = {"README.txt": b"nothing here"}
    source = pack(tmp_path / "a.tar", files) if packed else unpack(tmp_path / "f", files)
    with pytest.raises(SourceError, match=r"holds no record; looked for files named 1\.txt"):
        read_records([source], KIND)


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_that_stands_twice_is_refused(tmp_path: Path, packed: bool) -> None:
    files = {"x/1.txt": b"one", "y/1.txt": b"one"}
    source = pack(tmp_path / "a.tar", files) if packed else unpack(tmp_path / "f", files)
    with pytest.raises(SourceError, match=r"record 1 twice, as x/1\.txt and as y/1\.txt"):
        read_records([source], KIND)


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("1.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
    with pytest.raises(SourceError, match=r"1\.txt is a link"):
        read_records([tmp_path / "a.tar"], KIND)


def test_a_link_to_nowhere_in_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1.txt").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match="cannot be read"):
        read_records([tmp_path], KIND)


def publish(folder: Path, files: dict[str, bytes]) -> None:
    lines = [f"{sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    (folder / "SHA256SUMS.txt").write_text("".join(lines))


@pytest.mark.parametrize("given", ["", "set-a"])
def test_a_record_that_is_cut_or_absent_is_found_by_the_published_digests(
    tmp_path: Path, given: str
) -> None:
    folder = unpack(tmp_path, FILES)
    publish(folder, FILES)
    assert read_records([folder / given], KIND)[0][0].name == "10"
    record = folder / "set-a/10.txt"
    record.write_bytes(FILES["set-a/10.txt"][: 4 * 200])
    with pytest.raises(SourceError, match=r"10\.txt is not the published file"):
        read_records([folder / given], KIND)
    record.unlink()
    with pytest.raises(SourceError, match=r"lacks 1 of the files in SHA256SUMS\.txt, e\.g\. set-a"):
        read_records([folder / given], KIND)


def test_an_archive_is_compared_with_its_published_digest(tmp_path: Path) -> None:
    archive = pack(tmp_path / "set.tar", FILES)
    publish(tmp_path, {"set.tar": archive.read_bytes()})
    assert read_records([archive], KIND)[0]
    pack(archive, {"set-a/10.txt": b"ten\n"})
    with pytest.raises(SourceError, match=r"set\.tar is not the published file"):
        read_records([archive], KIND)
