from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.adapter.trained_adapter import RUN_CONFIG_FILE
from common.errors import FederationError
from server.runs.run_folder import (
    CHECKPOINT_FILE,
    ROUNDS_FILE,
    RunFolder,
    check_run_folder,
)


def begin(path: Path, rank: int, *, whole: bool) -> None:
    """Leave a run in the folder that failed after a whole round, or in its first one."""
    folder = RunFolder(path)
    folder.write_config({"settings": {"lora.rank": rank}})
    folder.append_round({"round": 1, "failed": "below the quorum"})
    state = path / CHECKPOINT_FILE
    (state.parent / "replies").mkdir(parents=True)
    if whole:
        state.touch()
    folder.close()


def test_a_run_without_a_whole_round_is_started_anew(tmp_path: Path) -> None:
    begin(tmp_path / "run", 900, whole=False)
    folder = RunFolder(tmp_path / "run")
    assert (folder.renewed, folder.has_run) == (True, False)
    assert [path.name for path in folder.path.iterdir()] == [ROUNDS_FILE]
    assert (folder.path / ROUNDS_FILE).read_text() == ""
    folder.write_config({"settings": {"lora.rank": 8}})
    folder.append_round({"round": 1})
    assert json.loads((folder.path / ROUNDS_FILE).read_text()) == {"round": 1}
    folder.close()


def test_it_is_resumed_where_that_is_asked_for(tmp_path: Path) -> None:
    begin(tmp_path / "run", 8, whole=False)
    folder = RunFolder(tmp_path / "run", resume=True)
    assert (folder.renewed, folder.has_run) == (False, True)
    assert (folder.path / RUN_CONFIG_FILE).exists()
    folder.close()


def test_a_whole_round_is_never_lost(tmp_path: Path) -> None:
    begin(tmp_path / "run", 8, whole=True)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(FederationError, match="already holds a run; give another folder, or resu"):
        RunFolder(tmp_path / "run")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "README.md").touch()
    for path in (tmp_path, tmp_path / "README.md"):
        with pytest.raises(FederationError, match=r"files of another kind|is a file"):
            check_run_folder(path)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
