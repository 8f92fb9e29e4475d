"""Checkpoints as Lightning writes them, of a Lag-Llama small enough for a test."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from common.backbones.lag_llama.convert import convert_lag_llama
from common.backbones.lag_llama.network import LagLlamaNetwork
from common.backbones.lag_llama.sizes import PUBLISHED_LAGS, LagLlamaSizes
from common.errors import BackboneError

SIZES = LagLlamaSizes(
    context_length=8, max_context_length=64, n_layer=1, n_head=2, n_embd_per_head=4,
    lags_seq=PUBLISHED_LAGS[:5],
)  # fmt: skip


class Loss:
    """As Lightning keeps whatever objects the module was made with."""

    def __init__(self) -> None:
        self.beta = 0.5


class Settings(dict[str, object]):
    """A library's own kind of dict."""


def network(seed: int = 0) -> LagLlamaNetwork:
    torch.manual_seed(seed)
    return LagLlamaNetwork(SIZES)


def content(seed: int = 0) -> dict[str, Any]:
    """Return the entries that Lightning puts into a checkpoint of the original module."""
    state = OrderedDict(
        (f"model.{key}", value) for key, value in network(seed).state_dict().items()
    )
    optimizer = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}}
    kwargs = {**SIZES.to_json(), "scaling": "robust", "input_size": 1, "distr_output": Loss()}
    return {
        "epoch": 1019,
        "global_step": 102000,
        "pytorch-lightning_version": "2.1.3",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"dirpath": Path("results"), "best": torch.tensor(1.5)}},
        "optimizer_states": [optimizer],
        "hparams_name": "kwargs",
        "hyper_parameters": {"model_kwargs": kwargs, "loss": Loss(), "device": torch.device("cpu")},
    }


def write(path: Path, values: object) -> Path:
    torch.save(values, path)
    return path


def refused(path: Path, out: Path) -> str:
    with pytest.raises(BackboneError) as error:
        convert_lag_llama(path, out)
    assert not out.exists()
    assert [entry.name for entry in out.parent.iterdir() if entry.name.endswith(".partial")] == []
    message = str(error.value)
    assert "\n" not in message
    assert message.isprintable()
    return message
