"""Attack on clipping: extreme floating-point settings that would let a raw gradient out."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from client.training.clipping import clip_factors, clipped
from client.training.dpsgd import ROWS_TOGETHER, batch_rows, sum_clipped
from client.training.poisson_sampling import Draw
from common.backbones.catalog import CATALOG
from common.backbones.lora import adapted_backbone, lora_parameters, trained_parameters
from common.config.run_config import LoraConfig, PrivacyConfig, RunConfig
from common.errors import UsageError
from tests.client.training.linear_backbone import LinearBackbone, linear_model, linear_windows
from tests.samples.backbones import windows as sample_windows

LINEAR = LinearBackbone()
PACKAGED = [name for name, entry in CATALOG.items() if entry.packaged and not entry.missing_extra]


def within(parts: list[float], clip_norm: float) -> bool:
    """Return whether the norm is at most C, in exact fractions."""
    return sum(Fraction(part) ** 2 for part in parts) <= Fraction(clip_norm) ** 2


def parts_of(gradients: dict[str, torch.Tensor], clip_norm: float) -> list[list[float]]:
    """Each patient's part over all matrices, as plain numbers."""
    factors = clip_factors(gradients, clip_norm)
    parts = [clipped(gradient, factors).flatten(1) for gradient in gradients.values()]
    assert all(part.dtype == torch.float64 for part in parts)
    rows: list[list[float]] = torch.cat(parts, dim=1).tolist()
    return rows


ODD = (0.0, -0.0, math.nan, math.inf, -math.inf, 1e-45, 5e-324, 1.4e-44, 3.4e38, 1.7e308, 1.2e-38)


@st.composite
def gradients(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    """Two matrices of a few patients; every number at its own scale of forty and more orders."""
    kind = draw(st.sampled_from([torch.float32, torch.float64]))
    patients = draw(st.integers(1, 4))
    scale = 10.0 ** draw(st.integers(-44, 38) if kind == torch.float32 else st.integers(-320, 307))
    number = st.one_of(
        st.floats(-1.0, 1.0).map(lambda value: value * scale),
        st.floats(allow_nan=True, allow_infinity=True, width=32),
        st.sampled_from(ODD),
    )
    values = draw(
        st.lists(st.lists(number, min_size=6, max_size=6), min_size=patients, max_size=patients)
    )
    whole = torch.tensor(values, dtype=torch.float64).to(kind)
    return {"a": whole[:, :2].reshape(-1, 1, 2), "b": whole[:, 2:].reshape(-1, 2, 2)}


@settings(max_examples=400)
@given(given_=gradients(), exponent=st.integers(-40, 10), mantissa=st.floats(1.0, 9.9))
def test_no_part_is_longer_than_c_whatever_the_gradient_holds(
    given_: dict[str, torch.Tensor], exponent: int, mantissa: float
) -> None:
    """By exact fractions, over every scale of gradient and clip norm.

    Before: gradients below 1e-23 squared to zero and were let out as they were.
    """
    clip_norm = mantissa * 10.0**exponent
    before = torch.cat([part.flatten(1) for part in given_.values()], dim=1).double()
    for row, part in zip(before.tolist(), parts_of(given_, clip_norm), strict=True):
        assert within(part, clip_norm)
        if not all(math.isfinite(number) for number in row):
            assert part == [0.0] * 6
        elif within(row, clip_norm * (1 - 1e-7)):
            assert part == row  # what is short enough is left as it is
        else:
            _assert_same_direction(row, part, clip_norm)


def _assert_same_direction(row: list[float], part: list[float], clip_norm: float) -> None:
    """A part that was clipped is the gradient times C over its norm, to seven digits of C."""
    with localcontext() as context:
        context.prec = 50
        norm = sum(Decimal(number) ** 2 for number in row)
        ratio = Decimal(clip_norm) / Decimal(norm).sqrt()
        if ratio < Decimal("1e-289"):
            return  # no digits are left for a factor: it may be nothing
        for number, found in zip(row, part, strict=True):
            wanted = Decimal(number) * min(ratio, Decimal(1))
            assert abs(Decimal(found) - wanted) <= Decimal(clip_norm) * Decimal("1e-7")


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan, math.inf, 1e-310, 5e-324, 1e300])
def test_a_clip_norm_beyond_double_precision_lets_nothing_out(clip_norm: float) -> None:
    """Before: a clip norm of denormals was exceeded twice over."""
    whole = {"a": torch.full((2, 3, 3), 1e-3), "b": torch.zeros(2, 1, 2)}
    assert not any(number for row in parts_of(whole, clip_norm) for number in row)


@settings(max_examples=60)
@given(
    scale_exponent=st.integers(-22, 18),
    clip_exponent=st.integers(-30, 10),
    target_exponent=st.integers(-20, 20),
    trained=st.sampled_from(["ab", "b"]),
)
def test_a_patients_part_of_a_step_is_never_longer_than_c(
    scale_exponent: int, clip_exponent: int, target_exponent: int, trained: str
) -> None:
    """A real network, its adapter scaled by alpha over forty orders of magnitude.

    Before: alpha 1e-22 with clip norm 1e-30 let a patient's gradient out, 2e5 clip norms long.
    """
    clip_norm = 10.0**clip_exponent
    model = linear_model()
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "scaling")]
    for layer in layers:
        layer.scaling = {"default": 10.0**scale_exponent}
    windows = linear_windows([3])
    windows.target[:] *= np.float32(10.0**target_exponent)
    batch = LINEAR.collate(windows.context, windows.target, windows.vital)
    with trained_parameters(model, trained) as named:
        with torch.no_grad():
            for _, weight in named:
                weight.add_(0.3)
        draw = Draw(np.arange(3), np.zeros(3, np.int64))
        total = sum_clipped(model, LINEAR, batch, named, draw, clip_norm, 99).gradients
    assert total.keys() == dict(lora_parameters(model)).keys() or trained == "b"
    assert all(part.dtype == torch.float64 for part in total.values())
    assert within(
        [number for part in total.values() for number in part.flatten().tolist()], clip_norm
    )


@pytest.mark.parametrize("backbone", PACKAGED)
def test_one_patient_less_leaves_the_others_parts_as_they_were(backbone: str) -> None:
    """Without the first patient the last one is no longer alone in a batch.

    Before: products of matrices were rounded otherwise for a window alone, and an adapter with
    large numbers made several per cent of it: the sums of neighbours were 1.01 C apart.
    """
    clip_norm, rows = 0.05, ROWS_TOGETHER
    adapted_backbone.cache_clear()
    adapted = adapted_backbone(backbone, LoraConfig(rank=8), torch.device("cpu"))
    adapted.model.eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(adapted.model):
            parameter.normal_(0, 5.0, generator=generator)
    context, target, vital = sample_windows(rows + 1)
    batch = adapted.backbone.collate(context, target, vital)

    def total(draw: Draw) -> torch.Tensor:
        with trained_parameters(adapted.model, "b") as named:
            found = sum_clipped(
                adapted.model, adapted.backbone, batch, named, draw, clip_norm, rows
            ).gradients
        return torch.cat([found[name].flatten() for name in sorted(found)])

    everyone = Draw(np.arange(rows + 1), np.arange(rows + 1))
    without = Draw(np.arange(1, rows + 1), np.arange(rows))
    own = total(Draw(np.arange(1), np.zeros(1, np.int64)))
    adapted_backbone.cache_clear()
    apart = total(everyone) - total(without)
    assert float((apart - own).norm()) <= 1e-12 * clip_norm
    assert float(apart.norm()) <= clip_norm


@settings(max_examples=100)
@given(
    declared=st.integers(1, 100_000),
    rate=st.floats(1e-4, 1.0),
    most=st.integers(1, 64),
    chunk=st.integers(64, 4096),
)
def test_the_size_of_a_batch_follows_from_what_is_declared(
    declared: int, rate: float, most: int, chunk: int
) -> None:
    privacy = PrivacyConfig(
        noise_multiplier=1.0, sample_rate=rate, patient_windows=most, chunk=chunk
    )
    rows = batch_rows(privacy, declared)
    assert rows % ROWS_TOGETHER == 0
    assert most <= rows < chunk + ROWS_TOGETHER
    assert rows >= min(chunk, rate * declared * most)


@pytest.mark.parametrize(
    "pairs", [{"lora.alpha": 1e-22}, {"privacy.clip-norm": 1e-30}, {"privacy.clip-norm": 1e-26}]
)
def test_the_settings_of_the_attack_are_refused_as_well(pairs: dict[str, float]) -> None:
    """Before: both were taken."""
    with pytest.raises(UsageError):
        RunConfig.parse({"privacy.epsilon": 1.0, **pairs})
