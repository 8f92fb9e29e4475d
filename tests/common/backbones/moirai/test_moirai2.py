from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from common.backbones.base import ModelForecaster, plain_model, weights_digest
from common.backbones.catalog import family_of_folder
from common.backbones.lora import add_adapter, lora_parameters
from common.backbones.moirai.moirai2 import Moirai2
from common.backbones.moirai.packing import carry_forward, causal_mean
from common.config.run_config import LoraConfig
from common.data.vitals import VITALS
from common.errors import BackboneError
from common.evaluation.evaluate import LEVELS
from tests.samples.backbones import windows

pytest.importorskip("uni2ts", reason='MOIRAI needs the extra: pip install "fedvitals[moirai]"')

MOIRAI = Moirai2()

PUBLISHED_CONFIG = {
    "attn_dropout_p": 0,
    "d_ff": 1024,
    "d_model": 384,
    "dropout_p": 0,
    "max_seq_len": 512,
    "num_layers": 6,
    "num_predict_token": 4,
    "patch_size": 16,
    "quantile_levels": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "scaling": True,
}
"""As in the config.json of Salesforce/moirai-2.0-R-small on the model hub."""


@pytest.fixture(scope="session")
def tiny_moirai2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a MOIRAI 2 of the real architecture, random and small, in the hub's layout."""
    from uni2ts.model.moirai2 import Moirai2Module

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {**PUBLISHED_CONFIG, "d_ff": 128, "d_model": 64, "num_layers": 2}
    module = Moirai2Module(**sizes)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2.0)  # so that the forecast depends on the context
    folder = tmp_path_factory.mktemp("tiny-moirai2")
    module.save_pretrained(folder)
    return folder


@pytest.fixture
def model(tiny_moirai2: Path) -> torch.nn.Module:
    return MOIRAI.build(tiny_moirai2)


@pytest.fixture
def adapted(tiny_moirai2: Path) -> PeftModel:
    """With an adapter whose B is not zero, so that every matrix matters."""
    config = LoraConfig(rank=2, scope="attention+feed-forward")
    wrapped = add_adapter(MOIRAI.build(tiny_moirai2), MOIRAI, config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(wrapped):
            parameter.normal_(0, 0.1, generator=generator)
    return wrapped


def test_a_windows_loss_and_gradient_do_not_depend_on_its_neighbours(adapted: PeftModel) -> None:
    context, target, vital = windows()
    parameters = [parameter for _, parameter in lora_parameters(adapted)]

    def first(rows: list[int], blank: bool = False) -> tuple[float, list[torch.Tensor]]:
        seen, wanted = context[rows].copy(), target[rows].copy()
        if blank:
            seen[1:], wanted[1:] = np.nan, np.nan
        loss = MOIRAI.window_loss(adapted, MOIRAI.collate(seen, wanted, vital[rows]))[0]
        return loss.item(), list(torch.autograd.grad(loss, parameters))

    loss, gradients = first([3])
    for rows, blank in (([3, 0, 1], False), ([3, 7, 6, 5, 4], False), ([3, 2, 1], True)):
        other_loss, other_gradients = first(rows, blank)
        assert other_loss == pytest.approx(loss, rel=1e-4)
        for mine, other in zip(gradients, other_gradients, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_every_matrix_of_the_adapter_gets_a_gradient(adapted: PeftModel) -> None:
    context, target, vital = windows()
    loss = MOIRAI.window_loss(adapted.train(), MOIRAI.collate(context, target, vital))
    torch.autograd.backward(loss.mean())
    matrices = lora_parameters(adapted)
    assert len(matrices) == 2 * 2 * (4 + 3)  # A and B, layers, attention and feed-forward
    for name, parameter in matrices:
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-6, name


@pytest.mark.parametrize("with_adapter", [False, True])
def test_forecasts_equal_the_packages_own(
    model: torch.nn.Module, adapted: PeftModel, with_adapter: bool
) -> None:
    # Through the network of the package's predictor and the imputation that this applies;
    # `Moirai2Forecast.predict` makes zeros of gaps, by a transposed array.
    from gluonts.transform import CausalMeanValueImputation
    from uni2ts.model.moirai2 import Moirai2Forecast
    from uni2ts.module.packed_scaler import PackedStdScaler

    used: Any = adapted if with_adapter else model
    context, _, vital = windows(16)
    # Theirs takes a gap at the start into the mean.
    start = np.array([VITALS[index].clinical_offset for index in vital])
    context[:, 0] = np.where(np.isnan(context[:, 0]), start, context[:, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        filled = [CausalMeanValueImputation()(row.astype(np.float64)) for row in context]
    ours = ModelForecaster(MOIRAI, used).forecast(context, vital, 6)
    plain_model(used).scaler = PackedStdScaler()  # the package's own, without a floor
    forecast = Moirai2Forecast(
        module=used,
        prediction_length=6,
        context_length=48,
        target_dim=1,
        feat_dynamic_real_dim=0,
        past_feat_dynamic_real_dim=0,
    )
    with torch.no_grad():
        theirs = forecast(
            torch.from_numpy(np.stack(filled).astype(np.float32))[:, :, None],
            torch.from_numpy(~np.isnan(context))[:, :, None],
            torch.zeros(context.shape, dtype=torch.bool),
        ).numpy()  # [B, Q, H]
    floors = np.array([VITALS[index].scale_floor for index in vital])
    above_floor = np.nanstd(context, axis=1) > 1.1 * floors
    assert above_floor.sum() > 8
    expected = np.sort(np.moveaxis(theirs, 1, 2), axis=2)
    np.testing.assert_allclose(ours[above_floor], expected[above_floor], rtol=1e-3, atol=5e-3)


def test_the_loss_is_the_mean_pinball_in_the_contexts_scale(model: torch.nn.Module) -> None:
    context, target, vital = windows(5)
    losses = MOIRAI.window_loss(model, MOIRAI.collate(context, target, vital))
    quantiles = ModelForecaster(MOIRAI, model).forecast(context, vital, 6)  # [B, H, Q], sorted
    batch = MOIRAI.collate(context, None, vital)
    raw = MOIRAI.predict_quantiles(model, batch, 6, LEVELS)
    assert raw.shape == quantiles.shape
    for row, loss in enumerate(losses.tolist()):
        floor = VITALS[vital[row]].scale_floor
        scale = max(np.nanstd(context[row], ddof=1), floor)
        error = target[row][:, None] - quantiles[row]
        levels = np.array(LEVELS)
        pinball = 2 * np.maximum(levels * error, (levels - 1) * error)
        # Sorting crossed quantiles can only lower the loss.
        assert loss >= np.nanmean(pinball) / scale - 1e-3
        assert loss < 3 * np.nanmean(pinball) / scale


@pytest.mark.parametrize("fill", [np.nan, 98.0])
def test_poor_contexts_have_finite_forecasts(adapted: PeftModel, fill: float) -> None:
    _, target, vital = windows(4)
    context = np.full((4, 48), fill, np.float32)
    forecast = ModelForecaster(MOIRAI, adapted).forecast(context, vital, 6)
    assert np.isfinite(forecast).all()
    assert (np.diff(forecast, axis=2) >= 0).all()
    loss = MOIRAI.window_loss(adapted, MOIRAI.collate(context, target, vital))
    assert torch.isfinite(loss).all()


def test_padding_on_the_left_changes_nothing(model: torch.nn.Module) -> None:
    context, _, vital = windows()
    context = context[:, 11:]  # 37 steps: the first token is not full
    padded = np.pad(context, ((0, 0), (30, 0)), constant_values=np.nan)
    forecaster = ModelForecaster(MOIRAI, model)
    short, long = (forecaster.forecast(values, vital, 6) for values in (context, padded))
    np.testing.assert_allclose(short, long, rtol=1e-4, atol=1e-3)


def test_gaps_get_the_mean_of_what_came_before() -> None:
    nan = torch.nan
    values = torch.tensor([[nan, 4.0, nan, 8.0, nan, nan], [nan] * 6])
    # 4; 4, 4; 4, 4, 8; then 4, 4, 8, 8 with the first gap carried forward.
    expected = [[4.0, 4.0, 4.0, 8.0, 16 / 3, 6.0], [0.0] * 6]
    torch.testing.assert_close(causal_mean(values), torch.tensor(expected))
    assert not torch.equal(causal_mean(values), carry_forward(values))


def test_the_base_stays_and_the_adapter_comes_back(
    adapted: PeftModel, tiny_moirai2: Path, tmp_path: Path
) -> None:
    assert family_of_folder(tiny_moirai2) == MOIRAI.family
    assert weights_digest(adapted) == weights_digest(MOIRAI.build(tiny_moirai2))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    again = PeftModel.from_pretrained(MOIRAI.build(tiny_moirai2), str(tmp_path / "adapter")).eval()
    context, _, vital = windows()
    ours, theirs = (
        ModelForecaster(MOIRAI, used).forecast(context, vital, 6) for used in (adapted, again)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_what_the_network_cannot_forecast_is_refused(model: torch.nn.Module) -> None:
    context, _, vital = windows(1)
    with pytest.raises(BackboneError, match=r"at most 64 steps, got windows\.horizon = 65"):
        ModelForecaster(MOIRAI, model).forecast(context, vital, 65)
    with pytest.raises(BackboneError, match=r"levels 0\.1, .*, got 0\.05"):
        MOIRAI.predict_quantiles(model, MOIRAI.collate(context, None, vital), 6, (0.05,))
    with pytest.raises(BackboneError, match="at most 512 patches of 16 steps"):
        ModelForecaster(MOIRAI, model).forecast(np.zeros((1, 16 * 513), np.float32), vital, 6)


@pytest.mark.parametrize("change", ["no weights", "truncated", "half a tensor set", "MOIRAI 1"])
def test_a_damaged_folder_is_one_clear_line(
    tiny_moirai2: Path, tmp_path: Path, change: str
) -> None:
    config = json.loads((tiny_moirai2 / "config.json").read_text())
    assert set(config) == set(PUBLISHED_CONFIG)
    folder = tmp_path / "weights"
    folder.mkdir()
    if change == "MOIRAI 1":
        config = {"distr_output": {}, "d_model": 64, "patch_sizes": [8]}
    (folder / "config.json").write_text(json.dumps(config))
    whole = (tiny_moirai2 / "model.safetensors").read_bytes()
    if change == "truncated":
        (folder / "model.safetensors").write_bytes(whole[:-100])
    elif change == "half a tensor set":
        tensors = load_file(tiny_moirai2 / "model.safetensors")
        kept = {name: tensor for name, tensor in tensors.items() if "out_proj" not in name}
        save_file(kept, folder / "model.safetensors")
    with pytest.raises(BackboneError, match="weights") as error:
        MOIRAI.build(folder)
    assert "\n" not in str(error.value)
