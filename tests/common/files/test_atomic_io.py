from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.files.atomic_io import (
    PARTIAL_SUFFIX,
    atomic_file,
    atomic_folder,
    write_private,
    write_text,
)


def test_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    write_text(target, "new\n")
    assert target.read_bytes() == b"new\n"
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("content", ["new", b"new"])
def test_a_private_file_is_its_owners_alone(content: str | bytes, tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    target.chmod(0o644)
    write_private(target, content)
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600


def test_failed_file_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("old", "new"):
        with atomic_folder(target) as partial:
            (partial / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with atomic_folder(target) as partial:
        (partial / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic_folder(target) as partial:
        (partial / "half").write_text("half")
        raise RuntimeError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_killed_process_leaves_no_target(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from common.files.atomic_io import atomic_folder\n"
        "with atomic_folder(Path(sys.argv[1])) as partial:\n"
        "    (partial / 'half').write_text('half')\n"
        "    print('writing', flush=True)\n    time.sleep(60)\n"
    )
    target = tmp_path / "folder"
    command = [sys.executable, "-c", code, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not target.exists()
    assert all(path.name.endswith(PARTIAL_SUFFIX) for path in tmp_path.iterdir())


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("old", "new"):
        link = tmp_path / "link" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(tmp_path / "disk" / "out")
        with atomic_folder(link) as partial:
            (partial / name).write_text(name)
        assert link.is_symlink()
        assert [path.name for path in (tmp_path / "disk" / "out").iterdir()] == [name]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["out"]


@pytest.mark.parametrize("kind", [atomic_file, atomic_folder])
def test_a_failed_write_names_the_file(tmp_path: Path, kind: Any) -> None:
    """Before: "No space left on device; free space there", and no place."""
    with pytest.raises(OSError, match=r"No space.*/a'") as caught, kind(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "a")
