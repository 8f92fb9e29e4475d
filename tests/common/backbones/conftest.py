from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.backbones.lag_llama.lag_llama import write_weights
from common.backbones.lag_llama.network import LagLlamaNetwork
from tests.common.backbones.torch_pickle.checkpoints import content, write
from tests.samples.backbones import LAG_LLAMA_SIZES


@pytest.fixture(scope="session")
def tiny_lag_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Lag-Llama of the real architecture, random and tiny."""
    folder = tmp_path_factory.mktemp("tiny-lag-llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_weights(folder, LAG_LLAMA_SIZES, LagLlamaNetwork(LAG_LLAMA_SIZES).state_dict())
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A Lightning checkpoint in the layout of the published Lag-Llama."""
    return write(tmp_path / "lag-llama.ckpt", content())
