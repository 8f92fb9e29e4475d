"""Lag-Llama: one token per step, Student's t of the next step out, the horizon sampled stepwise.

The network (`common.backbones.lag_llama.network`) is implemented from the paper (Rasul et al.,
arXiv 2310.08278). Level and scale of a window are inputs of its own, so values enter in their
vital's unit; `common.backbones.lag_llama.series` turns windows into tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from common.backbones.base import Batch, offset_and_scale, plain_model
from common.backbones.lag_llama.network import LagLlamaNetwork, static_features
from common.backbones.lag_llama.series import (
    SAMPLES,
    forecast_quantiles,
    next_step_loss,
    robust_scale,
)
from common.backbones.lag_llama.sizes import LagLlamaSizes
from common.backbones.weights_folder import read_weights_config
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError

MODEL_TYPE = "lag-llama"
"""`model_type` in `config.json`; the checkpoint itself names no family."""


class LagLlama:
    """The Lag-Llama family; see `common.backbones.base.Backbone`."""

    family = "lag-llama"
    attention = r".*attn\.(q_proj|kv_proj|c_proj)"
    feed_forward = r".*mlp\.(c_fc1|c_fc2|c_proj)"

    def build(self, weights: Path) -> torch.nn.Module:
        """Load config.json and model.safetensors from a folder, frozen and in eval mode."""
        sizes = read_sizes(weights)
        try:
            tensors = load_file(weights / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise BackboneError(f"{weights} cannot be loaded as Lag-Llama: {error}") from error
        network = network_of(sizes, tensors, str(weights / "model.safetensors"))
        return network.requires_grad_(False).eval()

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        """Return `context` [B, C] and `target` [B, H] unchanged, `offset` and `scale_floor` [B]."""
        offset, floor = offset_and_scale(vital)
        values = {"context": context, "offset": offset, "scale_floor": floor}
        if target is not None:
            values["target"] = target
        return {name: torch.from_numpy(array.astype(np.float32)) for name, array in values.items()}

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> Tensor:
        """Return the negative log-likelihood [B] per observed step, in the context's scale.

        As published, the next step of every token counts, in the context as in the target.
        """
        context = batch["context"]
        loc, scale = robust_scale(context, batch["scale_floor"], batch["offset"])
        static = static_features(loc, scale)
        return next_step_loss(model, context, batch["target"], loc, scale, static)

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> Tensor:
        """Return the quantiles [B, H, Q] of `SAMPLES` sampled paths."""
        context, floor, offset = (batch[name] for name in ("context", "scale_floor", "offset"))
        loc, scale = robust_scale(context, floor, offset)
        return forecast_quantiles(plain_model(model), context, loc, scale, horizon_steps, levels)

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        """Describe loss, input and forecast in words."""
        sizes = plain_model(model).sizes
        return {
            "loss": "negative log-likelihood of each next step, in units of the context's "
            "interquartile range",
            "input": f"{sizes.context_length} steps, each with {len(sizes.lags_seq)} lags of up to "
            f"{sizes.max_lag} steps, level and spread of the window",
            "forecast": f"quantiles of {SAMPLES} paths, sampled step by step from Student's t",
        }


def network_of(sizes: LagLlamaSizes, tensors: dict[str, Tensor], name: str) -> LagLlamaNetwork:
    """Make a network of these sizes and tensors.

    Args:
        sizes: the hyper-parameters.
        tensors: tensors by the network's own names.
        name: source of the tensors, for messages.

    Raises:
        BackboneError: a tensor is missing, unknown or of another shape.
    """
    expected = tensor_shapes(sizes)
    missing, extra = sorted(expected.keys() - tensors), sorted(tensors.keys() - expected)
    if missing:
        raise BackboneError(
            f"{name} lacks {len(missing)} of Lag-Llama's tensors, first {missing[0]}; fetch the "
            "weights again"
        )
    if extra:
        raise BackboneError(
            f"{name} holds {len(extra)} tensors unknown to a Lag-Llama of these sizes, first "
            f"{extra[0]}"
        )
    for key, shape in expected.items():
        if tuple(tensors[key].shape) != shape or not tensors[key].is_floating_point():
            raise BackboneError(
                f"{name}: {key} should be floats of shape {shape}, got {tensors[key].dtype} of "
                f"{tuple(tensors[key].shape)}; is config.json that of these weights?"
            )
    network = _unfilled(sizes)
    network.load_state_dict({key: tensors[key].float() for key in expected}, assign=True)
    return network


def tensor_shapes(sizes: LagLlamaSizes) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor of a network of these sizes, by name."""
    state = _unfilled(sizes).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _unfilled(sizes: LagLlamaSizes) -> LagLlamaNetwork:
    with torch.device("meta"):  # uses neither memory nor random numbers
        return LagLlamaNetwork(sizes)


def read_sizes(weights: Path) -> LagLlamaSizes:
    """Read the hyper-parameters from a folder's config.json.

    Raises:
        BackboneError: it is absent, unreadable, of another family or impossible.
    """
    config = read_weights_config(weights)
    kind = config.get("model_type")
    if kind != MODEL_TYPE:
        raise BackboneError(f"{weights} is not a Lag-Llama model (model_type {kind})")
    return LagLlamaSizes.from_json(config, str(weights / "config.json"))


def write_weights(folder: Path, sizes: LagLlamaSizes, tensors: Mapping[str, Tensor]) -> None:
    """Write config.json and model.safetensors into an existing folder, as `LagLlama` reads them."""
    config = {"model_type": MODEL_TYPE, **sizes.to_json()}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    plain = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
