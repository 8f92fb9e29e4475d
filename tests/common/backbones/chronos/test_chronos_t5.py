from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import ChronosConfig, ChronosModel, ChronosPipeline
from peft import PeftModel
from transformers import T5Config, T5ForConditionalGeneration

from common.backbones.base import ModelForecaster
from common.backbones.chronos import token_sampling
from common.backbones.chronos.chronos_t5 import SAMPLED_PATHS, SEED, ChronosT5
from common.backbones.lora import add_adapter, lora_parameters
from common.config.run_config import LoraConfig
from common.data.vitals import VITALS
from common.errors import BackboneError
from common.evaluation.evaluate import LEVELS
from tests.samples.backbones import damaged_copy, windows

T5 = ChronosT5()


@pytest.fixture(scope="session")
def tiny_t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Chronos T5 of the real architecture, random and tiny."""
    config = T5Config(
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=2,
        dropout_rate=0.1,
        initializer_factor=1.0,
        feed_forward_proj="relu",
        vocab_size=256,
        pad_token_id=0,
        eos_token_id=1,
    )
    config.decoder_start_token_id = 0
    config.chronos_config = {
        "tokenizer_class": "MeanScaleUniformBins",
        "tokenizer_kwargs": {"low_limit": -15.0, "high_limit": 15.0},
        "context_length": 64,
        "prediction_length": 12,
        "n_tokens": 256,
        "n_special_tokens": 2,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "use_eos_token": True,
        "model_type": "seq2seq",
        "num_samples": 20,
        "temperature": 1.0,
        "top_k": 50,
        "top_p": 1.0,
    }
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-t5")
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture
def model(tiny_t5: Path) -> torch.nn.Module:
    return T5.build(tiny_t5)


def with_adapter(folder: Path, scope: str = "attention") -> PeftModel:
    """Put an adapter on whose B is not zero, so that every matrix matters."""
    wrapped = add_adapter(T5.build(folder), T5, LoraConfig(rank=2, scope=scope))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(wrapped):
            parameter.normal_(0, 0.2, generator=generator)
    return wrapped


@pytest.fixture
def adapted(tiny_t5: Path) -> PeftModel:
    return with_adapter(tiny_t5)


@contextmanager
def gradients_per_window(model: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Collect each window's gradient of every LoRA matrix, from a layer's inputs and gradients."""
    found: dict[str, torch.Tensor] = {}
    handles = []
    for name, layer in model.named_modules():
        if ".lora_" not in name or not isinstance(layer, torch.nn.Linear):
            continue

        def forward(
            module: torch.nn.Module,
            given: tuple[torch.Tensor, ...],
            output: torch.Tensor,
            name: str = name,
        ) -> None:
            inputs = given[0].detach()

            def backward(gradient: torch.Tensor) -> None:
                found[f"{name}.weight"] = torch.einsum("bti,btj->bij", gradient, inputs)

            output.register_hook(backward)  # type: ignore[no-untyped-call]

        handles.append(layer.register_forward_hook(forward))
    yield found
    for handle in handles:
        handle.remove()


def test_gradients_per_window_equal_one_window_at_a_time(adapted: PeftModel) -> None:
    # In float64: T5's unscaled attention amplifies float32 rounding to 1e-3 of a gradient. What is
    # left is the rounding of the logits, which the loss takes in float32.
    adapted = adapted.double()
    context, target, vital = windows(5)
    parameters = lora_parameters(adapted)
    with gradients_per_window(adapted) as found:
        losses = T5.window_loss(adapted, T5.collate(context, target, vital))
        losses.sum().backward()  # type: ignore[no-untyped-call]
    assert set(found) == {name for name, _ in parameters}
    for row in range(5):
        batch = T5.collate(context[[row]], target[[row]], vital[[row]])
        alone = torch.autograd.grad(
            T5.window_loss(adapted, batch)[0], [parameter for _, parameter in parameters]
        )
        for (name, _), expected in zip(parameters, alone, strict=True):
            torch.testing.assert_close(found[name][row], expected, rtol=1e-5, atol=1e-6)


def test_the_loss_is_the_networks_own_for_one_window(model: torch.nn.Module, tiny_t5: Path) -> None:
    context, target, vital = windows(6)
    target[:, 2] = np.nan
    losses = T5.window_loss(model, T5.collate(context, target, vital))
    tokenizer = pipeline(tiny_t5, model).tokenizer
    for row, loss in enumerate(losses.tolist()):
        offset, floor = VITALS[vital[row]].clinical_offset, VITALS[vital[row]].scale_floor
        ids, mask, scale = tokenizer.context_input_transform(
            torch.from_numpy((context[[row]] - offset) / floor)
        )
        assert scale > 1
        padded = np.pad(target[[row]], ((0, 0), (0, 6)), constant_values=np.nan)
        labels, seen = tokenizer.label_input_transform(
            torch.from_numpy((padded - offset) / floor), scale
        )
        labels[~seen] = -100
        expected = model(input_ids=ids, attention_mask=mask, labels=labels[:, :6]).loss
        assert loss == pytest.approx(float(expected), rel=1e-4)


def test_a_window_without_a_target_costs_nothing(adapted: PeftModel) -> None:
    context, target, vital = windows(2)
    target[0] = np.nan
    losses = T5.window_loss(adapted, T5.collate(context, target, vital))
    assert losses[0] == 0
    assert losses[1] > 0


def test_training_mode_is_accepted(adapted: PeftModel) -> None:
    context, target, vital = windows()
    losses = T5.window_loss(adapted.train(), T5.collate(context, target, vital))
    assert losses.shape == (8,)
    assert torch.isfinite(losses).all()


def pipeline(folder: Path, model: torch.nn.Module) -> ChronosPipeline:
    """The package's pipeline, with its own tokenizer, on a model of ours."""
    config = ChronosConfig(**json.loads((folder / "config.json").read_text())["chronos_config"])
    return ChronosPipeline(config.create_tokenizer(), ChronosModel(config, model))


@pytest.mark.parametrize("adapter", [False, True])
def test_forecasts_equal_the_packages_own(tiny_t5: Path, adapter: bool) -> None:
    model = with_adapter(tiny_t5) if adapter else T5.build(tiny_t5)
    context, _, vital = windows(6)
    offset = np.array([VITALS[index].clinical_offset for index in vital])[:, None]
    floor = np.array([VITALS[index].scale_floor for index in vital])[:, None]
    theirs = []
    for row in torch.from_numpy(((context - offset) / floor).astype(np.float32)):
        torch.manual_seed(SEED)
        quantiles, _ = pipeline(tiny_t5, model).predict_quantiles(
            row[None], 6, list(LEVELS), num_samples=SAMPLED_PATHS, top_k=0
        )
        theirs.append(quantiles[0].numpy())
    ours = ModelForecaster(T5, model).forecast(context, vital, 6)
    expected = np.stack(theirs) * floor[:, None] + offset[:, None]
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-4)
    assert np.ptp(ours, axis=2).min() > 0


def test_a_forecast_depends_on_its_window_alone(
    model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _, vital = windows()
    forecaster = ModelForecaster(T5, model)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    together = forecaster.forecast(context, vital, 6)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    alone = forecaster.forecast(context[[5]], vital[[5]], 6)
    np.testing.assert_allclose(alone[0], together[5], rtol=1e-5)
    monkeypatch.setattr(token_sampling, "_FLOATS_AT_ONCE", 1)  # one window after the other
    np.testing.assert_allclose(forecaster.forecast(context, vital, 6), together, rtol=1e-5)


def test_the_horizon_does_not_change_its_first_steps(model: torch.nn.Module) -> None:
    context, _, vital = windows(3)
    forecaster = ModelForecaster(T5, model)
    short, long = (forecaster.forecast(context, vital, steps) for steps in (2, 12))
    np.testing.assert_allclose(short, long[:, :2], rtol=1e-5)


def test_a_constant_context_keeps_a_scale(model: torch.nn.Module) -> None:
    # 97.01 % is 0.02 floors from the offset: by the package alone its bins would be 0.0006 % wide.
    context = np.full((1, 48), 97.01, np.float32)
    forecast = ModelForecaster(T5, model).forecast(context, np.array([6]), 6)
    assert np.ptp(forecast) > VITALS[6].scale_floor


def test_temperatures_do_not_share_a_bin(model: torch.nn.Module) -> None:
    # Without the offset's subtraction 256 bins of 15 times 37 °C would be 4.4 °C wide.
    context = np.full((2, 48), 36.8, np.float32)
    context[:, ::2] = 37.4
    target = np.full((2, 6), 37.0, np.float32)
    target[1] = 37.2
    losses = T5.window_loss(model, T5.collate(context, target, np.array([5, 5])))
    assert losses[0] != losses[1]


def test_too_long_a_horizon_is_refused(model: torch.nn.Module) -> None:
    context, _, vital = windows(1)
    with pytest.raises(BackboneError, match=r"at most 12 steps, got windows\.horizon = 13"):
        ModelForecaster(T5, model).forecast(context, vital, 13)
    with pytest.raises(BackboneError, match="at most 12 steps"):
        T5.window_loss(model, T5.collate(context, np.ones((1, 13), np.float32), vital))


def test_the_published_layout_loads(tiny_t5: Path, tmp_path: Path, model: torch.nn.Module) -> None:
    # As on the hub: written by transformers 4, which names neither dtype nor tying.
    shutil.copytree(tiny_t5, tmp_path / "hub")
    path = tmp_path / "hub" / "config.json"
    config = json.loads(path.read_text())
    config = {**config, "torch_dtype": "bfloat16", "transformers_version": "4.37.2"}
    for name in ("dtype", "tie_word_embeddings", "scale_decoder_outputs"):
        config.pop(name, None)
    path.write_text(json.dumps(config))
    published = T5.build(tmp_path / "hub")
    assert all(parameter.dtype == torch.float32 for parameter in published.parameters())
    context, target, vital = windows()
    batch = T5.collate(context, target, vital)
    assert torch.equal(T5.window_loss(published, batch), T5.window_loss(model, batch))


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "half a config": lambda values: values["chronos_config"].pop("n_tokens"),
    "a model of words": lambda values: values.pop("chronos_config"),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no config", "holds no config.json"),
        ("no weights", "cannot be loaded as Chronos T5"),
        ("truncated", "cannot be loaded as Chronos T5"),
        ("pickle", "cannot be loaded as Chronos T5"),
        ("half a tensor set", "lacks [0-9]+ tensors, first "),
        ("half a config", "config.json is damaged"),
        ("a model of words", "is not a Chronos T5 model"),
    ],
)
def test_a_damaged_folder_is_one_clear_line(tiny_t5: Path, change: str, message: str) -> None:
    folder = damaged_copy(tiny_t5, change, dropped="block.1", configs=CONFIGS)
    with pytest.raises(BackboneError, match=message) as error:
        T5.build(folder)
    assert "\n" not in str(error.value)


def test_chronos_bolt_is_another_family(tiny_bolt: Path) -> None:
    with pytest.raises(BackboneError, match="is not a Chronos T5 model"):
        T5.build(tiny_bolt)
