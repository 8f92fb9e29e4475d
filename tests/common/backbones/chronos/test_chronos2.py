from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import Chronos2Pipeline
from chronos.chronos2.config import Chronos2CoreConfig
from chronos.chronos2.model import Chronos2Model
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file

from common.adapter.peft_io import save_peft_folder
from common.backbones.base import ModelForecaster, weights_digest
from common.backbones.chronos.chronos2 import Chronos2
from common.backbones.chronos.chronos_bolt import FlooredInstanceNorm
from common.backbones.loading import load_backbone
from common.backbones.lora import AdaptedBackbone, add_adapter, lora_parameters
from common.config.run_config import LoraConfig
from common.data.vitals import VITALS
from common.data.windows import FloatArray, IntArray
from common.errors import BackboneError
from common.evaluation.evaluate import LEVELS
from tests.samples.backbones import damaged_copy
from tests.samples.backbones import windows as plain_windows

CHRONOS2 = Chronos2()
QUANTILES = [0.01, *(round(0.05 * step, 2) for step in range(1, 20)), 0.99]
TOKENS = 48 // 4 + 1 + 2  # patches of the context, [REG], patches of six steps ahead


@pytest.fixture(scope="session")
def tiny_chronos2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as on the hub, with the keys of the published config.json, random and tiny."""
    config = {
        "architectures": ["Chronos2Model"],
        "chronos_config": {
            "context_length": 48,
            "input_patch_size": 4,
            "input_patch_stride": 4,
            "max_output_patches": 3,
            "output_patch_size": 4,
            "quantiles": QUANTILES,
            "time_encoding_scale": 48,
            "use_arcsinh": True,
            "use_reg_token": True,
        },
        "chronos_pipeline_class": "Chronos2Pipeline",
        "d_ff": 32,
        "d_kv": 8,
        "d_model": 16,
        "dense_act_fn": "relu",
        "dropout_rate": 0.1,
        "feed_forward_proj": "relu",
        "initializer_factor": 0.5,
        "is_gated_act": False,
        "layer_norm_epsilon": 1e-06,
        "model_type": "t5",
        "num_heads": 2,
        "num_layers": 2,
        "pad_token_id": 0,
        "reg_token_id": 1,
        "rope_theta": 10000.0,
        "torch_dtype": "float32",
        "vocab_size": 2,
    }
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("tiny-chronos2")
    (folder / "config.json").write_text(json.dumps(config))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tensors = Chronos2Model(Chronos2CoreConfig(**copy.deepcopy(config))).state_dict()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def model(tiny_chronos2: Path) -> torch.nn.Module:
    return CHRONOS2.build(tiny_chronos2)


@pytest.fixture
def adapted(tiny_chronos2: Path) -> PeftModel:
    """With an adapter whose B is not zero, so that every matrix matters."""
    wrapped = add_adapter(CHRONOS2.build(tiny_chronos2), CHRONOS2, LoraConfig(rank=2))
    randomise(wrapped)
    return wrapped


def randomise(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(model):
            parameter.normal_(0, 0.2, generator=generator)


def windows(count: int = 8, seed: int = 0) -> tuple[FloatArray, FloatArray, IntArray]:
    context, target, vital = plain_windows(count, seed)
    context[::2, :10] = np.nan  # whole patches, which the attention masks
    return context, target, vital


def gradients(model: torch.nn.Module, rows: Sequence[int], of: int = 0) -> list[torch.Tensor]:
    """Return the gradient of one window's loss in a batch of the given rows of `windows(15)`."""
    context, target, vital = windows(TOKENS)
    chosen = list(rows)
    batch = CHRONOS2.collate(context[chosen], target[chosen], vital[chosen])
    loss = CHRONOS2.window_loss(model, batch)[of]
    return list(torch.autograd.grad(loss, [parameter for _, parameter in lora_parameters(model)]))


def test_a_window_without_an_observed_target_adds_nothing(adapted: PeftModel) -> None:
    context, target, vital = windows(2)
    target[0] = np.nan
    losses = CHRONOS2.window_loss(adapted, CHRONOS2.collate(context, target, vital))
    assert losses[0].item() == 0.0
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is not None for _, parameter in lora_parameters(adapted))
    assert all(p.grad.isfinite().all() for _, p in lora_parameters(adapted) if p.grad is not None)


def test_gradients_per_window_come_from_a_layers_inputs_and_outputs(adapted: PeftModel) -> None:
    # With as many windows as tokens, layers that swap the two axes would be mixed up unseen.
    context, target, vital = windows(TOKENS)
    inputs: dict[str, torch.Tensor] = {}
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor], torch.Tensor], None]:
        def hook(_: torch.nn.Module, given: tuple[torch.Tensor], made: torch.Tensor) -> None:
            inputs[f"{name}.weight"] = given[0].detach()
            outputs[f"{name}.weight"] = made
            made.retain_grad()

        return hook

    names = {name.removesuffix(".weight") for name, _ in lora_parameters(adapted)}
    for name, module in adapted.named_modules():
        if name in names:
            module.register_forward_hook(keep(name))
    loss = CHRONOS2.window_loss(adapted, CHRONOS2.collate(context, target, vital))
    loss.sum().backward()  # type: ignore[no-untyped-call]
    hooked = {}
    for name, tensor in inputs.items():
        slope = outputs[name].grad
        assert slope is not None
        assert tensor.shape[:2] == (TOKENS, TOKENS)
        hooked[name] = torch.einsum("bto,bti->boi", slope, tensor)

    for row in range(TOKENS):
        alone = gradients(adapted, [row])
        for (name, _), expected in zip(lora_parameters(adapted), alone, strict=True):
            torch.testing.assert_close(hooked[name][row], expected, rtol=1e-3, atol=1e-5)


def test_the_group_attention_takes_no_adapter(adapted: PeftModel) -> None:
    # Of a window alone in its group, q and k of the group attention are dead: here is the proof.
    plain = adapted.get_base_model()
    group = {
        name: parameter.requires_grad_()
        for name, parameter in plain.named_parameters()
        if re.search(r"layer\.1\.self_attention\.[qk]\.weight$", name)
    }
    assert len(group) == 4
    context, target, vital = windows()
    loss = CHRONOS2.window_loss(adapted, CHRONOS2.collate(context, target, vital)).sum()
    for gradient in torch.autograd.grad(loss, list(group.values())):
        assert gradient.abs().max() < 1e-6
    targets = [name for name, module in adapted.named_modules() if isinstance(module, LoraLayer)]
    assert len(targets) == 2 * 4
    assert all(".layer.0.self_attention." in name for name in targets)


def test_the_loss_is_the_mean_pinball_in_the_contexts_scale(model: torch.nn.Module) -> None:
    context, target, vital = windows(5)
    batch = CHRONOS2.collate(context, target, vital)
    losses = CHRONOS2.window_loss(model, batch)
    raw = model(context=batch["context"], num_output_patches=2).quantile_preds.numpy()
    for row, loss in enumerate(losses.tolist()):
        floor, centre = VITALS[vital[row]].scale_floor, VITALS[vital[row]].clinical_offset
        mean, scale = np.nanmean(context[row]), max(np.nanstd(context[row]), floor)
        forecast = np.arcsinh((raw[row, :, :6] * floor + centre - mean) / scale)  # [21, 6]
        error = np.arcsinh((target[row] - mean) / scale) - forecast
        level = np.array(QUANTILES)[:, None]
        pinball = 2 * np.maximum(level * error, (level - 1) * error)
        assert loss == pytest.approx(np.nanmean(pinball), rel=1e-3)


def test_the_loss_is_the_packages_own_where_nothing_is_missing(tiny_chronos2: Path) -> None:
    vital = windows(8)[2]
    values = np.random.default_rng(3).normal(size=(8, 56)).cumsum(axis=1)
    context, target = values[:, :48].astype(np.float32), values[:, 48:].astype(np.float32)
    batch = CHRONOS2.collate(context, target, vital)
    theirs = Chronos2Model.from_pretrained(tiny_chronos2).eval()
    spread = batch["context"].std(dim=1, correction=0)
    rows = spread > 1
    assert rows.sum() >= 3
    expected = theirs(
        context=batch["context"][rows], future_target=batch["target"][rows], num_output_patches=2
    ).loss
    losses = CHRONOS2.window_loss(CHRONOS2.build(tiny_chronos2), batch)[rows]
    torch.testing.assert_close(21 * losses.mean(), expected.detach())


def pipeline_forecast(pipeline: Chronos2Pipeline, context: FloatArray) -> FloatArray:
    forecasts, _ = pipeline.predict_quantiles(
        torch.from_numpy(context)[:, None], prediction_length=6, quantile_levels=list(LEVELS)
    )
    forecast: FloatArray = torch.cat(forecasts).sort(dim=2).values.numpy()
    return forecast


def test_forecasts_equal_the_packages_own(
    tiny_chronos2: Path, model: torch.nn.Module, adapted: PeftModel, tmp_path: Path
) -> None:
    context, _, vital = windows(16)
    above_floor = np.nanstd(context, axis=1) > [VITALS[index].scale_floor for index in vital]
    assert above_floor.sum() > 8
    pipeline = Chronos2Pipeline.from_pretrained(tiny_chronos2)
    without = pipeline_forecast(pipeline, context)
    save_peft_folder(AdaptedBackbone("x", "0" * 64, CHRONOS2, adapted).adapter(), tmp_path / "lora")
    pipeline.model = PeftModel.from_pretrained(pipeline.model, tmp_path / "lora").eval()
    with_adapter = pipeline_forecast(pipeline, context)

    for ours, theirs in ((model, without), (adapted, with_adapter)):
        forecast = ModelForecaster(CHRONOS2, ours).forecast(context, vital, 6)
        np.testing.assert_allclose(forecast[above_floor], theirs[above_floor], rtol=1e-4, atol=1e-3)
    assert np.abs(with_adapter - without).max() > 0.1


def test_a_constant_context_keeps_a_scale(model: torch.nn.Module) -> None:
    # The package alone divides by 1e-5: its interval is 1e-4 wide.
    context = np.full((1, 48), 98.0, np.float32)
    forecast = ModelForecaster(CHRONOS2, model).forecast(context, np.array([6]), 6)
    assert np.ptp(forecast) > 0.01 * VITALS[6].scale_floor


def test_padding_on_the_left_changes_nothing(adapted: PeftModel) -> None:
    context, target, vital = windows()
    context = context[:, 13:]  # so that a patch is cut in the middle
    padded = np.pad(context, ((0, 0), (13, 0)), constant_values=np.nan)
    forecaster = ModelForecaster(CHRONOS2, adapted)
    short, long = (forecaster.forecast(values, vital, 6) for values in (context, padded))
    np.testing.assert_allclose(short, long, rtol=1e-4, atol=1e-3)
    losses = [
        CHRONOS2.window_loss(adapted, CHRONOS2.collate(values, target, vital)).detach()
        for values in (context, padded)
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def test_what_is_older_than_the_models_context_changes_nothing(model: torch.nn.Module) -> None:
    context, target, vital = windows()
    longer = np.concatenate([1000 + context, context], axis=1)
    short, long = (
        CHRONOS2.window_loss(model, CHRONOS2.collate(values, target, vital))
        for values in (context, longer)
    )
    torch.testing.assert_close(short, long)


def test_levels_in_between_are_interpolated(model: torch.nn.Module) -> None:
    context, _, vital = windows(seed=1)
    batch = CHRONOS2.collate(context, None, vital)
    raw = model(context=batch["context"], num_output_patches=2).quantile_preds[..., :6]
    near, far = raw[:, 1], raw[:, 2]  # at .05 and .1
    unit = batch["scale"][:, None], batch["offset"][:, None]
    alone = CHRONOS2.predict_quantiles(model, batch, 6, (0.0625,))[..., 0]
    torch.testing.assert_close(alone, (0.75 * near + 0.25 * far) * unit[0] + unit[1])
    both = CHRONOS2.predict_quantiles(model, batch, 6, (0.01, 0.99))
    ends = raw[:, [0, 20]].sort(dim=1).values.movedim(1, 2)
    torch.testing.assert_close(both, ends * unit[0][..., None] + unit[1][..., None])
    with pytest.raises(BackboneError, match=r"0\.01 to 0\.99, got 0\.005"):
        CHRONOS2.predict_quantiles(model, batch, 6, (0.005,))


def test_too_long_a_horizon_is_refused(model: torch.nn.Module) -> None:
    context, _, vital = windows(1)
    assert ModelForecaster(CHRONOS2, model).forecast(context, vital, 12).shape == (1, 12, 9)
    with pytest.raises(BackboneError, match=r"at most 12 steps, got windows\.horizon = 13"):
        ModelForecaster(CHRONOS2, model).forecast(context, vital, 13)


def test_a_folder_in_the_published_layout_loads(
    tiny_chronos2: Path, model: torch.nn.Module
) -> None:
    loaded = load_backbone(str(tiny_chronos2))
    assert loaded.backbone.family == "chronos-2"
    assert loaded.digest == weights_digest(model)
    assert isinstance(model.instance_norm, FlooredInstanceNorm)
    assert model.instance_norm.use_arcsinh  # as config.json says
    other = CHRONOS2.build(tiny_chronos2)
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-3
    assert weights_digest(other) != loaded.digest


def test_the_model_is_frozen_and_says_what_it_does(model: torch.nn.Module) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    facts = CHRONOS2.facts(model)
    assert facts["loss"].startswith("pinball loss at 21 quantiles")
    assert facts["input"] == "patches of 4 steps"


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another family": lambda values: values.update(
        architectures=["ChronosBoltModelForForecasting"]
    ),
    "another size": lambda values: values.update(d_model=24),
    "a setting too few": lambda values: values["chronos_config"].pop("context_length"),
}


@pytest.mark.parametrize(
    "change",
    [
        "no config",
        "damaged config",
        "no weights",
        "truncated",
        "pickle",
        "half a tensor set",
        "another family",
        "another size",
        "a setting too few",
    ],
)
def test_a_damaged_folder_is_one_clear_line(tiny_chronos2: Path, change: str) -> None:
    folder = damaged_copy(tiny_chronos2, change, dropped="output_patch", configs=CONFIGS)
    with pytest.raises(BackboneError, match="weights") as error:
        CHRONOS2.build(folder)
    assert "\n" not in str(error.value)
