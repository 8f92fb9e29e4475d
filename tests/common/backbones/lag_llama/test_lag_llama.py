from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from common.backbones.base import ModelForecaster
from common.backbones.lag_llama import series as lag_llama_series
from common.backbones.lag_llama.lag_llama import LagLlama
from common.backbones.lag_llama.network import LagLlamaNetwork, StudentT, static_features
from common.backbones.lag_llama.series import SAMPLES, robust_scale, sample_paths
from common.backbones.lag_llama.sizes import PUBLISHED_LAGS
from common.backbones.lora import add_adapter, lora_parameters
from common.config.run_config import LoraConfig
from common.data.vitals import VITALS
from common.errors import BackboneError
from common.evaluation.evaluate import LEVELS
from tests.samples.backbones import LAG_LLAMA_SIZES as SIZES
from tests.samples.backbones import windows

FAMILY = LagLlama()


@pytest.fixture
def model(tiny_lag_llama: Path) -> LagLlamaNetwork:
    network = FAMILY.build(tiny_lag_llama)
    assert isinstance(network, LagLlamaNetwork)
    return network


def shaken(model: torch.nn.Module, scope: str = "attention+feed-forward") -> PeftModel:
    """Put an adapter on whose B is not zero, so that every matrix matters."""
    wrapped = add_adapter(model, FAMILY, LoraConfig(rank=2, scope=scope))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(wrapped):
            parameter.normal_(0, 0.2, generator=generator)
    return wrapped


@pytest.fixture
def adapted(model: LagLlamaNetwork) -> PeftModel:
    return shaken(model)


# The original code


def test_the_network_equals_the_original_code(shared_data: Path, tmp_path: Path) -> None:
    golden = shared_data / "lag-llama-golden"
    config = json.loads((golden / "config.json").read_text())
    assert tuple(config["lags_seq"]) == PUBLISHED_LAGS
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "lag-llama", **config}))
    shutil.copyfile(golden / "weights.safetensors", tmp_path / "model.safetensors")
    network = FAMILY.build(tmp_path)
    assert isinstance(network, LagLlamaNetwork)
    io = load_file(golden / "io.safetensors")

    observed = torch.where(io["past_observed_values"] == 1, io["past_target"], torch.nan)
    loc, scale = robust_scale(observed, torch.full((5,), 1e-10), torch.zeros(5))
    torch.testing.assert_close(loc, io["loc"], rtol=0, atol=1e-5)
    torch.testing.assert_close(scale, io["scale"], rtol=0, atol=1e-5)

    values = (torch.cat([io["past_target"], io["future_target"]], dim=1) - loc) / scale
    time = torch.cat([io["past_time_feat"][:, 1092:], io["future_time_feat"][:, :-1]], dim=1)
    out = network(network.tokens(values[:, :-1], static_features(loc, scale), time))
    for mine, theirs in ((out.df, "df"), (out.loc, "loc_param"), (out.scale, "scale_param")):
        torch.testing.assert_close(mine, io[theirs], rtol=0, atol=1e-5)
    surprise = out.negative_log_likelihood(values[:, 1093:]) + scale.log()
    torch.testing.assert_close(surprise, io["nll"], rtol=0, atol=1e-5)


# The loss


def test_gradients_by_hooks_equal_those_of_one_window_at_a_time(adapted: PeftModel) -> None:
    """Per-window gradients of the linears' inputs and outputs need the windows on axis 0."""
    context, target, vital = windows(5)
    per_window: dict[str, torch.Tensor] = {}
    handles = []
    for name, module in adapted.named_modules():
        if ".lora_" in name and isinstance(module, torch.nn.Linear):

            def keep(
                layer: torch.nn.Module,
                inputs: tuple[torch.Tensor, ...],
                output: torch.Tensor,
                name: str = name,
            ) -> None:
                def fold(gradient: torch.Tensor) -> None:
                    seen = inputs[0].detach()
                    per_window[name] = torch.einsum("b...i,b...j->bij", gradient, seen)

                output.register_hook(fold)  # type: ignore[no-untyped-call]

            handles.append(module.register_forward_hook(keep))
    torch.autograd.backward(
        FAMILY.window_loss(adapted, FAMILY.collate(context, target, vital)).sum()
    )
    for handle in handles:
        handle.remove()
    named = lora_parameters(adapted)
    assert len(per_window) == len(named)
    for row in range(5):
        rows = slice(row, row + 1)
        batch = FAMILY.collate(context[rows], target[rows], vital[rows])
        alone = torch.autograd.grad(
            FAMILY.window_loss(adapted, batch).sum(), [parameter for _, parameter in named]
        )
        for (name, _), gradient in zip(named, alone, strict=True):
            mine = per_window[name.removesuffix(".weight")][row]
            torch.testing.assert_close(mine, gradient, rtol=1e-3, atol=1e-6)


def test_the_loss_is_the_mean_surprise_in_the_contexts_scale(model: LagLlamaNetwork) -> None:
    context, target, vital = windows(5)
    losses = FAMILY.window_loss(model, FAMILY.collate(context, target, vital))
    for row, loss in enumerate(losses.tolist()):
        known = context[row][~np.isnan(context[row])]
        centre = np.sort(known)[(len(known) - 1) // 2]
        scale = max(np.subtract(*np.percentile(known, [75, 25])), VITALS[vital[row]].scale_floor)
        values = (np.concatenate([context[row], target[row]]) - centre) / scale
        filled, last = [], 0.0
        for value in values:
            last = last if np.isnan(value) else value
            filled.append(last)
        series = torch.tensor([[0.0] * 60 + filled[:-1]], dtype=torch.float32)
        tokens = SIZES.context_length + 5
        static = torch.tensor([[math.log1p(abs(centre)), math.log(scale)]], dtype=torch.float32)
        calendar = torch.tensor([-0.5, -0.5, 0.0, 0.0, 0.0, 0.0])
        part = network_tokens(model, series[:, -(SIZES.max_lag + tokens) :], static, calendar)
        following = torch.tensor(values[-tokens:])
        surprises = [
            -torch.distributions.StudentT(df, loc, spread).log_prob(value).item()  # type: ignore[no-untyped-call]
            for df, loc, spread, value in zip(*(p[0] for p in part), following, strict=True)
            if not value.isnan()
        ]
        assert loss == pytest.approx(sum(surprises) / len(surprises), rel=1e-4)


def network_tokens(
    model: LagLlamaNetwork, series: torch.Tensor, static: torch.Tensor, calendar: torch.Tensor
) -> StudentT:
    out: StudentT = model(model.tokens(series, static, calendar))
    return out


def test_a_window_without_values_costs_nothing(adapted: PeftModel) -> None:
    nothing = np.full((2, 54), np.nan, np.float32)
    batch = FAMILY.collate(nothing[:, :48], nothing[:, 48:], np.array([0, 5]))
    loss = FAMILY.window_loss(adapted, batch)
    assert loss.tolist() == [0.0, 0.0]
    torch.autograd.backward(loss.sum())
    assert all(
        parameter.grad is not None and not parameter.grad.any()
        for _, parameter in lora_parameters(adapted)
    )


def test_a_constant_context_keeps_a_scale_and_a_gradient(adapted: PeftModel) -> None:
    # The original code divides by 1e-10: its loss is flat, and its interval of no width.
    context = np.full((1, 48), 98.0, np.float32)
    spo2 = np.array([6])
    forecast = ModelForecaster(FAMILY, adapted).forecast(context, spo2, 6)
    assert np.ptp(forecast) > 0.1 * VITALS[6].scale_floor
    loss = FAMILY.window_loss(adapted, FAMILY.collate(context, context[:, :6] - 3, spo2))
    assert float(loss.detach()) < 20
    torch.autograd.backward(loss.sum())
    assert all(
        parameter.grad is not None and parameter.grad.abs().max() > 1e-8
        for _, parameter in lora_parameters(adapted)
    )


# The adapter


def test_the_adapter_changes_the_forecast_and_comes_back_bit_by_bit(
    adapted: PeftModel, tiny_lag_llama: Path, tmp_path: Path
) -> None:
    context, _, vital = windows(4)
    adapted.save_pretrained(str(tmp_path))
    loaded = PeftModel.from_pretrained(FAMILY.build(tiny_lag_llama), str(tmp_path)).eval()
    plain, ours, theirs = (
        ModelForecaster(FAMILY, one).forecast(context, vital, 6)
        for one in (FAMILY.build(tiny_lag_llama), adapted, loaded)
    )
    np.testing.assert_array_equal(ours, theirs)
    assert not np.allclose(plain, ours)
    for (name, mine), (other, back) in zip(
        sorted(adapted.named_parameters()), sorted(loaded.named_parameters()), strict=True
    ):
        assert name == other
        assert torch.equal(mine, back)


# The forecast


@pytest.mark.parametrize("with_adapter", [False, True])
def test_sampling_with_the_cache_equals_the_whole_network(
    model: LagLlamaNetwork, with_adapter: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if with_adapter:
        shaken(model)  # its layers are put into the network itself
    drawn_from: list[StudentT] = []
    draw = lag_llama_series._draw

    def spy(distribution: StudentT, points: torch.Tensor) -> torch.Tensor:
        drawn_from.append(distribution)
        return draw(distribution, points)

    monkeypatch.setattr(lag_llama_series, "_draw", spy)
    generator = torch.Generator().manual_seed(2)
    series = torch.randn(3, SIZES.max_lag + 24, generator=generator)
    static = torch.randn(3, 2, generator=generator)
    calendar = torch.tensor(lag_llama_series.CALENDAR)
    with torch.no_grad():
        paths = sample_paths(model, series, static, 6, samples=5)
        for row in range(3):
            for sample in range(5):
                # The path behind the series, all at once and without a cache.
                grown = torch.cat([series[row], paths[row, sample, :-1]])[None]
                whole = model(model.tokens(grown, static[row : row + 1], calendar))
                for step, stepwise in enumerate(drawn_from):
                    for mine, theirs in zip(stepwise, whole, strict=True):
                        own = mine[row, min(sample, mine.shape[1] - 1)]
                        torch.testing.assert_close(own, theirs[0, 23 + step], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("df", [2.05, 3.0, 8.0, 500.0])
def test_draws_follow_students_t(df: float) -> None:
    from scipy.stats import t

    points = lag_llama_series._sample_points(20_000, 2)
    one = torch.ones(1, 1)
    for step in range(2):
        drawn = lag_llama_series._draw(StudentT(df * one, 3 * one, 2 * one), points[:, step])
        levels = torch.tensor([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
        mine = drawn[0].quantile(levels).numpy()
        np.testing.assert_allclose(mine, t.ppf(levels.numpy(), df, 3, 2), atol=0.12)
    # Two steps of one path have nothing to do with each other.
    assert abs(np.corrcoef(points[0, 0], points[0, 1])[0, 1]) < 0.03


def test_enough_paths_for_steady_quantiles(
    model: LagLlamaNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, _, vital = windows(4)
    batch = FAMILY.collate(context, None, vital)
    few = FAMILY.predict_quantiles(model, batch, 3, LEVELS)
    monkeypatch.setattr(lag_llama_series, "SAMPLES", 40 * SAMPLES)
    monkeypatch.setattr(lag_llama_series, "SAMPLING_SEED", 7)
    many = FAMILY.predict_quantiles(model, batch, 3, LEVELS)
    width = (many[..., 8] - many[..., 0]).mean(dim=1)[:, None, None]
    assert ((few - many).abs() / width).max() < 0.12


def test_a_forecast_depends_on_its_own_window_only(model: LagLlamaNetwork) -> None:
    context, _, vital = windows(50)  # more than go through at once
    forecaster = ModelForecaster(FAMILY, model)
    torch.manual_seed(0)
    together = forecaster.forecast(context, vital, 6)
    state = torch.get_rng_state()
    alone = np.concatenate(
        [forecaster.forecast(context[i : i + 1], vital[i : i + 1], 6) for i in (0, 17, 49)]
    )
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_allclose(alone, together[[0, 17, 49]], rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(together, forecaster.forecast(context, vital, 6))


def test_another_unit_changes_level_and_spread_alone(model: LagLlamaNetwork) -> None:
    context = windows(3)[0]
    typical, floor = torch.zeros(3), torch.full((3,), 1e-3)
    loc, scale = robust_scale(torch.from_numpy(context), floor, typical)
    moved_loc, moved_scale = robust_scale(torch.from_numpy(10 * context - 7), 10 * floor, typical)
    torch.testing.assert_close(moved_loc, 10 * loc - 7)
    torch.testing.assert_close(moved_scale, 10 * scale, rtol=1e-4, atol=1e-4)


def test_any_level_can_be_asked_for(model: LagLlamaNetwork) -> None:
    context, _, vital = windows()
    batch = FAMILY.collate(context, None, vital)
    nine = FAMILY.predict_quantiles(model, batch, 6, LEVELS)
    some = FAMILY.predict_quantiles(model, batch, 6, (0.05, 0.1, 0.9))
    torch.testing.assert_close(some[..., 1:], nine[..., [0, 8]])
    assert (some[..., 0] < some[..., 1]).all()


def test_an_empty_context_is_forecast_around_the_typical_value(model: LagLlamaNetwork) -> None:
    nothing = np.full((len(VITALS), 48), np.nan, np.float32)
    forecast = ModelForecaster(FAMILY, model).forecast(nothing, np.arange(len(VITALS)), 6)
    for index, vital in enumerate(VITALS):
        distance = np.abs(forecast[index, :, 4] - vital.clinical_offset) / vital.scale_floor
        assert distance.max() < 5


@pytest.mark.parametrize("steps", [12, 40, 48])  # shorter and longer than the model's tokens
def test_padding_on_the_left_changes_nothing(model: LagLlamaNetwork, steps: int) -> None:
    context, target, vital = windows()
    context = context[:, -steps:]
    padded = np.pad(context, ((0, 0), (30, 0)), constant_values=np.nan)
    forecaster = ModelForecaster(FAMILY, model)
    short, long = (forecaster.forecast(values, vital, 6) for values in (context, padded))
    np.testing.assert_allclose(short, long, rtol=1e-5, atol=1e-4)
    losses = [
        FAMILY.window_loss(model, FAMILY.collate(values, target, vital))
        for values in (context, padded)
    ]
    torch.testing.assert_close(*losses)


def test_gaps_hold_the_last_value_and_start_at_the_median() -> None:
    nan = torch.nan
    values = torch.tensor([[nan, 2.0, nan, nan, -1.0, nan], [nan] * 6])
    filled = lag_llama_series._without_gaps(values)
    assert filled.tolist() == [[0.0, 2.0, 2.0, 2.0, -1.0, -1.0], [0.0] * 6]


def test_too_long_a_horizon_is_refused(model: LagLlamaNetwork) -> None:
    context, target, vital = windows(1)
    with pytest.raises(BackboneError, match=r"at most 40 steps, got windows\.horizon = 41"):
        ModelForecaster(FAMILY, model).forecast(context, vital, 41)
    wide = np.repeat(target, 7, axis=1)
    with pytest.raises(BackboneError, match=r"got windows\.horizon = 42"):
        FAMILY.window_loss(model, FAMILY.collate(context, wide, vital))


def test_the_facts_name_what_is_its_own(model: LagLlamaNetwork) -> None:
    facts = FAMILY.facts(shaken(model))
    assert "6 lags of up to 30 steps" in facts["input"]
    assert str(SAMPLES) in facts["forecast"]
