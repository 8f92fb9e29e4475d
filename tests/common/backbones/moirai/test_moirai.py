from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from common.backbones.base import ModelForecaster, weights_digest
from common.backbones.catalog import family_of_folder
from common.backbones.lora import add_adapter, lora_parameters
from common.backbones.moirai.moirai import Moirai
from common.backbones.moirai.packing import carry_forward, pack
from common.config.run_config import LoraConfig
from common.errors import BackboneError
from common.evaluation.evaluate import LEVELS
from tests.samples.backbones import damaged_copy, windows

pytest.importorskip("uni2ts", reason='MOIRAI needs the extra: pip install "fedvitals[moirai]"')

MOIRAI = Moirai()
PATCHES = [8, 16, 32]  # of the published 8 to 128, so that a token is longer than its patch

PUBLISHED_MIXTURE = {
    "_target_": "uni2ts.distribution.mixture.MixtureOutput",
    "components": [
        {"_target_": "uni2ts.distribution.student_t.StudentTOutput"},
        {"_target_": "uni2ts.distribution.normal.NormalFixedScaleOutput", "scale": 0.001},
        {"_target_": "uni2ts.distribution.negative_binomial.NegativeBinomialOutput"},
        {"_target_": "uni2ts.distribution.log_normal.LogNormalOutput"},
    ],
}
"""As in the config.json of Salesforce/moirai-1.0-R-small on the model hub."""


@pytest.fixture(scope="session")
def tiny_moirai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a MOIRAI of the real architecture, random and small, in the hub's layout."""
    from uni2ts.distribution import (
        LogNormalOutput,
        MixtureOutput,
        NegativeBinomialOutput,
        NormalFixedScaleOutput,
        StudentTOutput,
    )
    from uni2ts.model.moirai import MoiraiModule

    torch.set_num_threads(1)
    torch.manual_seed(0)
    outputs = [
        StudentTOutput(),
        NormalFixedScaleOutput(0.001),
        NegativeBinomialOutput(),
        LogNormalOutput(),
    ]
    module = MoiraiModule(MixtureOutput(outputs), 64, 2, PATCHES, 512, 0.0, 0.0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2.0)  # so that the forecast depends on the context
    folder = tmp_path_factory.mktemp("tiny-moirai")
    module.save_pretrained(folder)
    return folder


@pytest.fixture
def model(tiny_moirai: Path) -> torch.nn.Module:
    return MOIRAI.build(tiny_moirai)


@pytest.fixture
def adapted(tiny_moirai: Path) -> PeftModel:
    """With an adapter whose B is not zero, so that every matrix matters."""
    wrapped = add_adapter(
        MOIRAI.build(tiny_moirai), MOIRAI, LoraConfig(rank=2, scope="attention+feed-forward")
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(wrapped):
            parameter.normal_(0, 0.1, generator=generator)
    return wrapped


def upstream(module: torch.nn.Module, samples: int = 1) -> Any:
    from uni2ts.model.moirai import MoiraiForecast

    return MoiraiForecast(
        module=module,  # type: ignore[arg-type, unused-ignore]
        prediction_length=6,
        context_length=48,
        patch_size=16,
        num_samples=samples,
        target_dim=1,
        feat_dynamic_real_dim=0,
        past_feat_dynamic_real_dim=0,
    ).eval()


def upstream_past(context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The package's arguments: values with gaps filled, what was observed, what is padding."""
    observed = ~torch.isnan(context)
    return (
        carry_forward(context)[:, :, None],
        observed[:, :, None],
        observed.cumsum(dim=1) == 0,
    )


@pytest.mark.parametrize("train", [False, True])
def test_every_matrix_of_the_adapter_gets_a_gradient(adapted: PeftModel, train: bool) -> None:
    context, target, vital = windows()
    loss = MOIRAI.window_loss(adapted.train(train), MOIRAI.collate(context, target, vital))
    torch.autograd.backward(loss.mean())
    matrices = lora_parameters(adapted)
    assert len(matrices) == 2 * 2 * (4 + 3)  # A and B, layers, attention and feed-forward
    for name, parameter in matrices:
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.abs().max() > 1e-6, name


def test_attention_alone_is_the_narrower_scope(tiny_moirai: Path) -> None:
    wrapped = add_adapter(MOIRAI.build(tiny_moirai), MOIRAI, LoraConfig(rank=2))
    names = [name for name, _ in lora_parameters(wrapped)]
    assert len(names) == 2 * 2 * 4
    assert all(".self_attn." in name for name in names)


def test_the_tokens_are_the_packages_own() -> None:
    # `_convert` is private to uni2ts, which is pinned: that it is called nowhere else is the point.
    context, target, vital = windows()
    batch = MOIRAI.collate(context, target, vital)
    batch["context"][0, :20] = torch.nan
    batch["context"][1] = torch.nan
    past = upstream_past(batch["context"])
    module = torch.nn.Module()
    module.patch_sizes = PATCHES  # type: ignore[assignment]
    theirs = upstream(module)._convert(
        16,
        *past,
        future_target=batch["target"].nan_to_num(0.0)[:, :, None],
        future_observed_target=~torch.isnan(batch["target"])[:, :, None],
    )
    ours = pack(batch["context"], batch["target"], 16, 32)
    for mine, their, name in zip(ours, theirs, ours._fields, strict=False):
        torch.testing.assert_close(mine, their.to(mine.dtype), rtol=0, atol=0, msg=name)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_the_loss_is_the_packages_own(
    model: torch.nn.Module, adapted: PeftModel, with_adapter: bool
) -> None:
    context, target, vital = windows()
    batch = MOIRAI.collate(context, target, vital)
    used = adapted if with_adapter else model
    packed = pack(batch["context"], batch["target"], 16, 32)
    forecast = used(**packed._asdict())
    theirs = upstream(used).per_sample_loss_func(
        pred=forecast,
        target=packed.target,
        prediction_mask=packed.prediction_mask,
        observed_mask=packed.observed_mask,
        sample_id=packed.sample_id,
        variate_id=packed.variate_id,
    )
    # Theirs has the logarithm of the context's deviation in it, which depends on no weight.
    expected = theirs - forecast.scale[:, -1, 0].log()
    torch.testing.assert_close(MOIRAI.window_loss(used, batch), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("with_adapter", [False, True])
def test_quantiles_are_those_of_the_packages_samples(
    model: torch.nn.Module, adapted: PeftModel, with_adapter: bool
) -> None:
    used = adapted if with_adapter else model
    context, _, vital = windows(6)
    batch = MOIRAI.collate(context, None, vital)
    ours = ModelForecaster(MOIRAI, used).forecast(context, vital, 6)
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = upstream(used, samples=4000)(*upstream_past(batch["context"]))  # [B, S, 6]
    samples = drawn.numpy() * batch["scale"].numpy()[:, None, None]
    samples += batch["offset"].numpy()[:, None, None]
    # A quantile's level among the samples: below it, and at it or below, for there are atoms.
    for column, level in enumerate(LEVELS):
        slack = 1e-3 * batch["scale"].numpy()[:, None, None]
        quantile = ours[:, None, :, column]
        assert ((samples < quantile - slack).mean(axis=1) < level + 0.04).all()
        assert ((samples <= quantile + slack).mean(axis=1) > level - 0.04).all()
    untuned = ModelForecaster(MOIRAI, model).forecast(context, vital, 6)
    assert np.allclose(ours, untuned) != with_adapter


def test_forecasting_draws_nothing(model: torch.nn.Module) -> None:
    context, target, vital = windows()
    state = torch.get_rng_state()
    whole = ModelForecaster(MOIRAI, model).forecast(context, vital, 6)
    MOIRAI.window_loss(model, MOIRAI.collate(context, target, vital))
    assert torch.equal(torch.get_rng_state(), state)
    alone = ModelForecaster(MOIRAI, model).forecast(context[2:3], vital[2:3], 6)
    np.testing.assert_allclose(alone[0], whole[2], rtol=1e-4, atol=1e-3)


def test_a_constant_context_keeps_a_scale(model: torch.nn.Module) -> None:
    # The package alone divides by 0.003: a fall by 3 would be a thousand deviations.
    context = np.full((1, 48), 98.0, np.float32)
    spo2 = np.array([6])
    assert np.ptp(ModelForecaster(MOIRAI, model).forecast(context, spo2, 6)) > 0.01
    loss = MOIRAI.window_loss(model, MOIRAI.collate(context, context[:, :6] - 3, spo2))
    assert float(loss) < 20


def test_a_missing_value_is_not_taken_for_zero() -> None:
    values = torch.tensor([[torch.nan, 5.0, torch.nan, 7.0, torch.nan], [torch.nan] * 5])
    assert carry_forward(values).tolist() == [[5.0, 5.0, 5.0, 7.0, 7.0], [0.0] * 5]


def test_a_folder_as_on_the_hub_loads(tiny_moirai: Path) -> None:
    config = json.loads((tiny_moirai / "config.json").read_text())
    assert config["distr_output"] == PUBLISHED_MIXTURE
    assert set(config) == {
        "attn_dropout_p",
        "d_model",
        "distr_output",
        "dropout_p",
        "max_seq_len",
        "num_layers",
        "patch_sizes",
        "scaling",
    }
    from uni2ts.model.moirai import MoiraiModule

    assert family_of_folder(tiny_moirai) == MOIRAI.family
    theirs = MoiraiModule.from_pretrained(tiny_moirai)
    assert weights_digest(MOIRAI.build(tiny_moirai)) == weights_digest(theirs)


def test_the_model_is_frozen_and_an_adapter_leaves_its_digest(
    model: torch.nn.Module, adapted: PeftModel
) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training
    assert weights_digest(adapted) == weights_digest(model)


def test_too_long_a_window_is_refused(model: torch.nn.Module) -> None:
    context = np.zeros((1, 16 * 512), np.float32)
    with pytest.raises(BackboneError, match="at most 512 patches of 16 steps"):
        ModelForecaster(MOIRAI, model).forecast(context, np.array([0]), 6)


CONFIGS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another family": lambda values: values.pop("patch_sizes"),
    "experts": lambda values: values.update(d_ff=512),
    "another size": lambda values: values.update(num_layers=1),
    # Passes the package's own check of the prefix, and would run a function of torch.
    "hostile config": lambda values: values.update(
        distr_output={"_target_": "uni2ts.distribution._base.torch.load", "f": "x"}
    ),
}


@pytest.mark.parametrize(
    "change",
    [
        "no config",
        "no weights",
        "truncated",
        "pickle",
        "half a tensor set",
        "another family",
        "experts",
        "another size",
        "hostile config",
    ],
)
def test_a_damaged_folder_is_one_clear_line(tiny_moirai: Path, change: str) -> None:
    folder = damaged_copy(tiny_moirai, change, dropped="param_proj", configs=CONFIGS)
    with pytest.raises(BackboneError, match="weights") as error:
        MOIRAI.build(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600
