"""Loader of MOIRAI weights from a folder into uni2ts' network (extra `moirai`).

The package's own loader imports the class names in `config.json`, so a hostile file could name any
function. Here a name is looked up in a short allowlist and never imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from uni2ts.distribution import (
    DistributionOutput,
    LogNormalOutput,
    MixtureOutput,
    NegativeBinomialOutput,
    NormalFixedScaleOutput,
    NormalOutput,
    StudentTOutput,
)
from uni2ts.model.moirai import MoiraiModule
from uni2ts.model.moirai2 import Moirai2Module
from uni2ts.module.packed_scaler import PackedStdScaler

from common.backbones.weights_folder import read_weights_config
from common.errors import BackboneError

_PACKAGE = "uni2ts.distribution."
_COMPONENTS: dict[str, type[DistributionOutput]] = {
    output.__name__: output
    for output in (
        StudentTOutput,
        NormalOutput,
        NormalFixedScaleOutput,
        NegativeBinomialOutput,
        LogNormalOutput,
    )
}
_SIZES = ("d_model", "num_layers", "patch_sizes", "max_seq_len")
_SIZES_2 = (
    "d_model",
    "d_ff",
    "num_layers",
    "patch_size",
    "max_seq_len",
    "num_predict_token",
    "quantile_levels",
)


class FlooredScaler(PackedStdScaler):  # type: ignore[misc]
    """The package's standardisation with a scale of at least 1."""

    def _get_loc_scale(
        self,
        target: torch.Tensor,
        observed_mask: torch.Tensor,
        sample_id: torch.Tensor,
        variate_id: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loc, scale = super()._get_loc_scale(target, observed_mask, sample_id, variate_id)
        return loc, scale.clamp(min=1.0)


def read_moirai(weights: Path) -> torch.nn.Module:
    """Load a MOIRAI 1 whose scale is at least 1.

    Raises:
        BackboneError: the folder is not of MOIRAI 1, or is damaged.
    """
    config = _read_config(weights, "MOIRAI 1", ("distr_output", *_SIZES))
    if "d_ff" in config:  # same settings otherwise, but other layers
        raise BackboneError(f"{weights} is a mixture of experts and not a MOIRAI 1 model")

    def build() -> torch.nn.Module:
        sizes = {key: config[key] for key in _SIZES}
        network: torch.nn.Module = MoiraiModule(
            distr_output=_mixture(config["distr_output"]), **_common(config), **sizes
        )
        return network

    return _load(build, weights, "MOIRAI 1")


def read_moirai2(weights: Path) -> torch.nn.Module:
    """Load a MOIRAI 2 whose scale is at least 1.

    Raises:
        BackboneError: the folder is not of MOIRAI 2, or is damaged.
    """
    config = _read_config(weights, "MOIRAI 2", _SIZES_2)

    def build() -> torch.nn.Module:
        sizes = {key: config[key] for key in _SIZES_2}
        network: torch.nn.Module = Moirai2Module(**_common(config), **sizes)
        return network

    return _load(build, weights, "MOIRAI 2")


def _common(config: dict[str, Any]) -> dict[str, Any]:
    # uni2ts applies attention dropout in eval mode too, which would make forecasts random.
    return {"attn_dropout_p": 0.0, "dropout_p": float(config.get("dropout_p", 0.0))}


def _load(build: Callable[[], torch.nn.Module], weights: Path, kind: str) -> torch.nn.Module:
    try:
        network = build()
        loaded = network.load_state_dict(load_file(weights / "model.safetensors"), strict=False)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise BackboneError(f"{weights} cannot be loaded as {kind}: {error}") from error
    missing, unknown = loaded.missing_keys, loaded.unexpected_keys
    if missing or unknown:
        what = f"lacks {len(missing)}" if missing else f"has {len(unknown)} unknown"
        raise BackboneError(
            f"{weights / 'model.safetensors'} {what} tensors, first "
            f"{min(missing or unknown)}; fetch the weights again"
        )
    network.scaler = FlooredScaler()
    return network.float()


def _mixture(config: dict[str, Any]) -> DistributionOutput:
    if _class_name(config) != "MixtureOutput":
        raise ValueError(f"its distribution is {_class_name(config)}, not a mixture")
    components = []
    for entry in config["components"]:
        name = _class_name(entry)
        if name not in _COMPONENTS:
            raise ValueError(f"its mixture has {name}; known are {', '.join(_COMPONENTS)}")
        settings = {key: float(value) for key, value in entry.items() if key != "_target_"}
        components.append(_COMPONENTS[name](**settings))
    return MixtureOutput(components)


def _class_name(entry: dict[str, Any]) -> str:
    target = str(entry["_target_"])
    return target.rsplit(".", 1)[-1] if target.startswith(_PACKAGE) else target


def _read_config(weights: Path, kind: str, needed: tuple[str, ...]) -> dict[str, Any]:
    config = read_weights_config(weights)
    absent = [key for key in needed if key not in config]
    if absent:
        raise BackboneError(
            f"{weights} is not a {kind} model: its config.json has no {', '.join(absent)}"
        )
    if not config.get("scaling", True):
        raise BackboneError(f"{weights} is a {kind} without scaling, which is not supported")
    return config
