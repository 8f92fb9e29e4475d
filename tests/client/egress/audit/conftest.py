from __future__ import annotations

from pathlib import Path

import pytest

from tests.client.egress.audit.anchors import write


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "state" / "audit.jsonl"
    write(path, 3)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "elsewhere" / "anchors.jsonl"
