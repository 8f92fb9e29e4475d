"""Windows of vital signs and damaged folders of weights, for the tests of the families."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from common.backbones.lag_llama.sizes import LagLlamaSizes
from common.data.vitals import VITALS
from common.data.windows import FloatArray, IntArray

CONTEXT, HORIZON = 48, 6
LAG_LLAMA_SIZES = LagLlamaSizes(
    context_length=24,
    max_context_length=64,
    n_layer=2,
    n_head=2,
    n_embd_per_head=4,
    lags_seq=(0, 1, 2, 5, 7, 30),
)


def windows(count: int = 8, seed: int = 0) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return context [B, 48], target [B, 6] and vital [B]; a fifth of the values is missing."""
    random = np.random.default_rng(seed)
    vital = random.integers(0, len(VITALS), count)
    centre = np.array([VITALS[index].clinical_offset for index in vital])[:, None]
    floor = np.array([VITALS[index].scale_floor for index in vital])[:, None]
    values = centre + 2 * floor * random.normal(size=(count, CONTEXT + HORIZON))
    values[random.random(values.shape) < 0.2] = np.nan
    narrow: FloatArray = values.astype(np.float32)
    return narrow[:, :CONTEXT], narrow[:, CONTEXT:], vital


def damaged_copy(
    folder: Path,
    change: str,
    *,
    dropped: str,
    configs: Mapping[str, Callable[[dict[str, Any]], object]],
) -> Path:
    """Copy a folder of weights beside itself and spoil the copy.

    Args:
        folder: a good one.
        change: what to do, one of the words below or a key of `configs`.
        dropped: "half a tensor set" drops the tensors that have this in their name.
        configs: changes of config.json, each made in place.
    """
    target = folder.with_name(f"{folder.name}-{change.replace(' ', '-')}-weights")
    shutil.copytree(folder, target)
    config, weights = target / "config.json", target / "model.safetensors"
    if change in configs:
        values = json.loads(config.read_text())
        configs[change](values)
        config.write_text(json.dumps(values))
    elif change == "half a tensor set":
        kept = {name: value for name, value in load_file(weights).items() if dropped not in name}
        save_file(kept, weights, metadata={"format": "pt"})
    else:
        actions: dict[str, Callable[[], object]] = {
            "no config": config.unlink,
            "damaged config": lambda: config.write_text(config.read_text()[:-20]),
            "no weights": weights.unlink,
            "truncated": lambda: weights.write_bytes(weights.read_bytes()[:-100]),
            "a tensor too many": lambda: save_file(
                load_file(weights) | {"second_head": torch.ones(2)}, weights
            ),
            "pickle": lambda: weights.rename(target / "pytorch_model.bin"),
        }
        actions[change]()
    return target
