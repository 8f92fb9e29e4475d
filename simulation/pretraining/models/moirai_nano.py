"""`moirai-nano`: MOIRAI's network at a seventeenth of the published small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from common.backbones.moirai.mixture import log_density
from common.backbones.moirai.packing import carry_forward, pack
from common.evaluation.evaluate import LEVELS
from simulation.pretraining.model_spec import TARGET_BOUND, NanoModel
from simulation.pretraining.recipe import GENERIC_MIX, PretrainingRecipe
from simulation.pretraining.train import WindowBatch

_NUM_SAMPLES = 200
"""Samples per window for the card's figures; the package forecasts by sampling."""

_SAMPLING_SEED = 0

RECIPE = PretrainingRecipe(
    name="moirai-nano",
    architecture={
        "d_model": 128,
        "num_layers": 4,
        "patch_sizes": (8,),
        "max_seq_len": 512,
        "attn_dropout_p": 0.0,
        "dropout_p": 0.0,
        "scaling": True,
    },
    family_mix=GENERIC_MIX,
    steps=2600,
    learning_rate=2e-3,
)


def build(recipe: PretrainingRecipe) -> nn.Module:
    """Return the network with random weights from torch's global generator."""
    # Imported here, since uni2ts takes ten seconds to import.
    from uni2ts.distribution import (
        LogNormalOutput,
        MixtureOutput,
        NegativeBinomialOutput,
        NormalFixedScaleOutput,
        StudentTOutput,
    )
    from uni2ts.model.moirai import MoiraiModule

    published = [
        StudentTOutput(),
        NormalFixedScaleOutput(scale=1e-3),
        NegativeBinomialOutput(),
        LogNormalOutput(),
    ]
    architecture = {**recipe.architecture, "patch_sizes": list(recipe.architecture["patch_sizes"])}
    model: nn.Module = MoiraiModule(distr_output=MixtureOutput(published), **architecture)
    return model


def window_loss(model: nn.Module, batch: WindowBatch) -> Tensor:
    """Return the negative log-likelihood in units of the context's deviation, ``[batch]``."""
    moirai: Any = model  # its parts are attributes that nn.Module's own type does not know
    patch = max(moirai.patch_sizes)
    packed = pack(batch.context, batch.target, patch, patch)
    forecast = moirai(**packed._asdict())
    target = ((packed.target - forecast.loc) / forecast.scale).clamp(-TARGET_BOUND, TARGET_BOUND)
    observed = packed.observed_mask & packed.prediction_mask[:, :, None]
    surprise = -log_density(forecast.base_dist, target)  # [B, N, patch]
    total = torch.where(observed, surprise, 0.0).sum(dim=(1, 2))
    losses: Tensor = total / observed.sum(dim=(1, 2)).clamp(min=1)
    return losses


def save(model: nn.Module, folder: Path) -> None:
    """Write `config.json` and `model.safetensors` for `MoiraiModule.from_pretrained`."""
    cast(Any, model).save_pretrained(folder)


def predict_quantiles(folder: Path, context: Tensor, horizon: int) -> Tensor:
    """Forecast with the saved folder through the package's own sampler: ``[batch, horizon, 9]``."""
    from uni2ts.model.moirai import MoiraiForecast, MoiraiModule

    forecast = MoiraiForecast(
        module=MoiraiModule.from_pretrained(folder),
        prediction_length=horizon,
        context_length=context.shape[1],
        patch_size=max(RECIPE.architecture["patch_sizes"]),
        num_samples=_NUM_SAMPLES,
        target_dim=1,
        feat_dynamic_real_dim=0,
        past_feat_dynamic_real_dim=0,
    ).eval()
    observed = ~torch.isnan(context)
    before = observed.cumsum(dim=1) == 0
    blocks = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SAMPLING_SEED)
        for rows, seen, pad in zip(
            *(torch.split(tensor, 256) for tensor in (carry_forward(context), observed, before)),
            strict=True,
        ):
            samples = forecast(rows[:, :, None], seen[:, :, None], pad)  # [rows, sample, horizon]
            blocks.append(torch.quantile(samples, torch.tensor(LEVELS), dim=1).movedim(0, -1))
    return torch.cat(blocks)


MOIRAI_NANO = NanoModel(
    recipe=RECIPE,
    build=build,
    window_loss=window_loss,
    save=save,
    predict_quantiles=predict_quantiles,
    packages=("numpy", "torch", "safetensors", "huggingface-hub", "timecopilot-uni2ts"),
    architecture=(
        "A genuine MOIRAI 1 (`MoiraiModule` of uni2ts, arXiv 2402.02592; distribution "
        "timecopilot-uni2ts) of nano size: d_model 128, 2 heads of 64, 4 layers, one patch size of "
        "8 steps, and the published mixture of a Student t, a narrow normal, a negative binomial "
        "and a log-normal."
    ),
    loading=(
        "from uni2ts.model.moirai import MoiraiForecast, MoiraiModule\n\n"
        'module = MoiraiModule.from_pretrained("FOLDER")\n'
        "forecast = MoiraiForecast(\n"
        "    module=module,\n    prediction_length=6,\n    context_length=48,\n"
        "    patch_size=8,\n    target_dim=1,\n    feat_dynamic_real_dim=0,\n"
        "    past_feat_dynamic_real_dim=0,\n"
        ")\n"
        "samples = forecast(past_target, past_observed_target, past_is_pad)"
    ),
    limits=(
        "A constant context has a deviation of almost zero, and the forecast then an interval of "
        "almost nothing: put a floor under the scale.",
        "Trained with gaps filled by the value before; the package's own predictor puts a 0 there.",
    ),
)
