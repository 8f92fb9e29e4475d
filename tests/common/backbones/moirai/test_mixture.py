"""Tests of the mixture that need scipy and torch, but not the extra `moirai`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributions

from common.backbones.moirai.mixture import log_density
from common.backbones.moirai.moirai import Moirai
from common.errors import BackboneError

pytest.importorskip("scipy", reason="it comes with the extra moirai")

from common.backbones.moirai.mixture import BOUND, mixture_quantiles

LEVELS = (0.01, 0.1, 0.5, 0.9, 0.99)


@dataclass
class Mixture:
    """As uni2ts' own: a categorical distribution and components of one shape [B, N, P]."""

    weights: distributions.Categorical
    components: list[distributions.Distribution]


def mixture(logits: list[float], seed: int = 0) -> Mixture:
    shape = (5, 3, 2)
    generator = torch.Generator().manual_seed(seed)

    def random(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    return Mixture(
        distributions.Categorical(logits=torch.tensor(logits).expand(*shape, len(logits))),
        [
            distributions.StudentT(random(2, 6), random(-2, 2), random(0.1, 2)),
            distributions.Normal(random(-2, 2), torch.tensor(0.001)),
            distributions.NegativeBinomial(random(0.1, 5), logits=random(-2, 1)),
            distributions.LogNormal(random(-1, 1), random(0.1, 1)),
        ],
    )


def last_two(values: torch.Tensor) -> torch.Tensor:
    return values[:, 1:].flatten(1, 2)[:, :3]


@pytest.mark.parametrize(
    "logits",
    [
        pytest.param([0.0, 0.0, 0.0, 0.0], id="even"),
        pytest.param([5.0, 0.0, -5.0, 0.0], id="Student t"),
        pytest.param([-9.0, -9.0, 9.0, -9.0], id="negative binomial"),
        pytest.param([-2.0, -9.0, -9.0, 3.0], id="log-normal"),
    ],
)
def test_samples_lie_below_a_quantile_as_often_as_its_level(logits: list[float]) -> None:
    mixed = mixture(logits)
    quantiles = mixture_quantiles(mixed, last_two, LEVELS)  # [5, 3, 5]
    assert quantiles.shape == (5, 3, len(LEVELS))
    torch.manual_seed(0)
    size = torch.Size([20_000])
    draws = [component.sample(size) for component in mixed.components]
    drawn = torch.stack(draws, dim=-1)
    chosen = mixed.weights.sample(size)  # type: ignore[no-untyped-call]
    samples = drawn.gather(-1, chosen[..., None]).squeeze(-1)  # [S, 5, 3, 2]
    samples = torch.stack([last_two(values) for values in samples])[..., None]
    levels = torch.tensor(LEVELS)
    # A negative binomial has atoms: a quantile is the least value with its level at or below.
    assert ((samples < quantiles - 1e-3).float().mean(dim=0) < levels + 0.015).all()
    assert ((samples <= quantiles + 1e-3).float().mean(dim=0) > levels - 0.015).all()


def test_a_student_t_alone_has_its_textbook_quantiles() -> None:
    shape = (1, 1, 1)
    alone = Mixture(
        distributions.Categorical(logits=torch.zeros(*shape, 1)),
        [distributions.StudentT(torch.full(shape, 4.0), torch.tensor(10.0), torch.tensor(2.0))],
    )
    found = mixture_quantiles(alone, lambda values: values.flatten(1, 2), (0.05, 0.5, 0.975))
    expected = 10 + 2 * np.array([-2.1318468, 0.0, 2.7764451])  # t with 4 degrees of freedom
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=2e-5)


def test_extreme_parameters_give_bounded_quantiles_and_nan_stays_nan() -> None:
    shape = (1, 1, 4)
    counts = torch.tensor([0.0, 1e6, 1e-20, 1.0]).view(shape)
    extreme = Mixture(
        distributions.Categorical(logits=torch.zeros(*shape, 2)),
        [
            distributions.NegativeBinomial(
                counts, logits=torch.tensor([0.0, 80.0, 3.0, 1.0]).view(shape), validate_args=False
            ),
            distributions.LogNormal(
                torch.tensor([0.0, 200.0, -200.0, torch.nan]).view(shape),
                torch.tensor(1.0),
                validate_args=False,
            ),
        ],
    )
    found = mixture_quantiles(extreme, lambda values: values.flatten(1, 2), (0.1, 0.9))
    assert (found[0, :3].abs() <= BOUND).all()
    assert found[0, 3].isnan().all()


def test_the_log_density_integrates_to_one_and_is_minus_infinity_nowhere() -> None:
    mixed = mixture([0.0, -3.0, -30.0, 0.0])  # the negative binomial's is no density over reals
    grid = torch.linspace(-60, 60, 120_001)
    densities = torch.stack([log_density(mixed, value.expand(5, 3, 2)) for value in grid[::600]])
    assert densities.isfinite().all()
    one = Mixture(
        distributions.Categorical(logits=torch.zeros(1, 2)),
        [
            distributions.StudentT(torch.tensor([4.0])),
            distributions.LogNormal(torch.tensor([0.0]), torch.tensor([1.0])),
        ],
    )
    total = log_density(one, grid[:, None]).exp().sum() * (grid[1] - grid[0])
    assert float(total) == pytest.approx(1.0, abs=2e-3)


def test_a_value_outside_of_a_support_leaves_finite_gradients() -> None:
    location = torch.tensor([0.3], requires_grad=True)
    mixed = Mixture(
        distributions.Categorical(logits=torch.zeros(1, 2)),
        [
            distributions.StudentT(torch.tensor([4.0]), location, torch.tensor([1.0])),
            distributions.LogNormal(location, torch.tensor([1e-7])),
        ],
    )
    torch.autograd.backward(log_density(mixed, torch.tensor([-5.0])))
    assert location.grad is not None
    assert location.grad.isfinite().all()


def test_a_missing_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "uni2ts"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uni2ts", None)
    monkeypatch.delitem(sys.modules, "common.backbones.moirai.weights", raising=False)
    monkeypatch.delattr("common.backbones.moirai.weights", raising=False)
    with pytest.raises(BackboneError, match=r'uni2ts .*pip install "fedvitals\[moirai\]"') as error:
        Moirai().build(tmp_path)
    assert "\n" not in str(error.value)
