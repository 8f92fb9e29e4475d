from __future__ import annotations

from pathlib import Path

import pytest

from tests.common.backbones.torch_pickle.checkpoints import content, write


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "lag-llama.ckpt", content())
