from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from client.training.patient_gradients import NamedParameters, patient_gradients
from common.backbones.base import Batch
from common.backbones.catalog import CATALOG
from common.backbones.lora import (
    AdaptedBackbone,
    adapted_backbone,
    lora_parameters,
    trained_parameters,
)
from common.config.run_config import LoraConfig
from common.config.sections import LORA_SCOPES
from common.errors import TrainingError
from tests.samples.backbones import windows

PACKAGED = [name for name, entry in CATALOG.items() if entry.packaged]
OWNER = torch.tensor([0, 0, 1, 2, 2, 2])


@pytest.fixture(params=[(name, scope) for name in PACKAGED for scope in LORA_SCOPES], ids=str)
def adapted(request: pytest.FixtureRequest) -> Iterator[AdaptedBackbone]:
    """A packaged model in double precision, its A and B both random."""
    name, scope = request.param
    if CATALOG[name].missing_extra:
        pytest.skip(f"{name} needs the extra {CATALOG[name].missing_extra}")
    adapted_backbone.cache_clear()
    made = adapted_backbone(name, LoraConfig(rank=2, scope=scope), torch.device("cpu"))
    made.model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(made.model):
            parameter.normal_(0, 0.05, generator=generator)
    yield made
    adapted_backbone.cache_clear()


def batch_of(adapted: AdaptedBackbone, count: int) -> Batch:
    batch = adapted.backbone.collate(*windows(count))
    return {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in batch.items()
    }


def one_at_a_time(
    adapted: AdaptedBackbone, batch: Batch, owner: Tensor, named: NamedParameters
) -> dict[str, Tensor]:
    """The slow way: each window by itself through plain autograd, summed by patient."""
    patients = int(owner.max()) + 1
    total = {name: torch.zeros((patients, *weight.shape)).double() for name, weight in named}
    for row, patient in enumerate(owner.tolist()):
        alone = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        loss = adapted.backbone.window_loss(adapted.model, alone).sum()
        gradients = torch.autograd.grad(loss, [weight for _, weight in named])
        for (name, _), gradient in zip(named, gradients, strict=True):
            total[name][patient] += gradient
    return total


@pytest.mark.parametrize("trained", ["ab", "b"])
def test_every_family_equals_one_window_at_a_time(adapted: AdaptedBackbone, trained: str) -> None:
    batch = batch_of(adapted, len(OWNER))
    with trained_parameters(adapted.model, trained) as named:
        expected = one_at_a_time(adapted, batch, OWNER, named)
        with patient_gradients(adapted.model, named, OWNER, 3) as gradients:
            loss = adapted.backbone.window_loss(adapted.model, batch).sum()
            loss.backward()  # type: ignore[no-untyped-call]
        assert {".lora_A." in name for name in gradients} == (
            {True, False} if trained == "ab" else {False}
        )
        for name, gradient in gradients.items():
            scale = float(expected[name].norm())
            assert float((gradient - expected[name]).norm()) < 1e-7 * scale, name


def test_a_batch_as_large_as_the_sequence_mixes_nothing(adapted: AdaptedBackbone) -> None:
    """The trap of Chronos-2: where a layer swaps batch and time, equal sizes would hide it."""
    seen: list[tuple[int, ...]] = []
    name, _ = lora_parameters(adapted.model)[0]
    layer = adapted.model.get_submodule(name.removesuffix(".weight"))
    handle = layer.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    adapted.backbone.window_loss(adapted.model, batch_of(adapted, 2))
    handle.remove()
    steps = seen[0][1]
    owner = torch.arange(steps)
    batch = batch_of(adapted, steps)
    with trained_parameters(adapted.model, "ab") as named:
        expected = one_at_a_time(adapted, batch, owner, named)
        with patient_gradients(adapted.model, named, owner, steps) as gradients:
            loss = adapted.backbone.window_loss(adapted.model, batch).sum()
            loss.backward()  # type: ignore[no-untyped-call]
    for name, gradient in gradients.items():
        assert float((gradient - expected[name]).norm()) < 1e-7 * float(expected[name].norm()), name


class Twice(nn.Module):
    """Calls one layer twice, a second on [B, 1, 2, d], and a third on [B, d]."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.deep, self.flat = (nn.Linear(3, 3, bias=False) for _ in range(3))
        self.idle = nn.Linear(3, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.twice(torch.tanh(self.twice(x)))  # [B, 2, 3]
        hidden = self.deep(hidden[:, None])[:, 0]
        out: Tensor = self.flat(hidden.sum(dim=1)).square().sum(dim=1)
        return out


@pytest.fixture
def twice() -> Twice:
    torch.manual_seed(0)
    return Twice().double()


def used(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, weight) for name, weight in model.named_parameters() if "idle" not in name]


def test_layers_called_twice_and_tensors_of_any_depth_add_up(twice: Twice) -> None:
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    with patient_gradients(twice, used(twice), OWNER, 4) as gradients:
        twice(x).sum().backward()
    for patient in range(4):
        expected = torch.autograd.grad(
            twice(x[patient == OWNER]).sum(), [weight for _, weight in used(twice)]
        )
        for (name, _), gradient in zip(used(twice), expected, strict=True):
            torch.testing.assert_close(gradients[name][patient], gradient)
    assert not any(gradient[3].any() for gradient in gradients.values())


def test_the_model_is_left_unchanged(twice: Twice) -> None:
    before = {name: weight.clone() for name, weight in twice.named_parameters()}
    with pytest.raises(ZeroDivisionError), patient_gradients(twice, used(twice), OWNER, 3):
        raise ZeroDivisionError
    with patient_gradients(twice, used(twice), OWNER, 3):
        assert len(twice.twice._forward_hooks) == 1
        twice(torch.ones(6, 2, 3).double()).sum().backward()
    for module in twice.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    for name, weight in twice.named_parameters():
        assert weight.requires_grad
        assert weight.grad is None
        assert torch.equal(weight, before[name])


def test_a_layer_without_gradients_is_named(twice: Twice) -> None:
    everything = list(twice.named_parameters())
    with (
        pytest.raises(TrainingError, match=r"1 of 4 .* first idle\.weight"),
        patient_gradients(twice, everything, OWNER, 3),
    ):
        twice(torch.ones(6, 2, 3).double()).sum().backward()


def test_a_batch_that_does_not_come_first_is_refused(twice: Twice) -> None:
    with (
        pytest.raises(TrainingError, match=r"twice\.weight .* \[2, 6, 3\], expected 6 windows"),
        patient_gradients(twice, used(twice), OWNER, 3),
    ):
        twice(torch.ones(2, 6, 3).double())


def test_a_frozen_a_carries_no_hook(twice: Twice) -> None:
    named = [(name, weight) for name, weight in used(twice) if "flat" in name]
    with patient_gradients(twice, named, OWNER, 3):
        assert not twice.twice._forward_hooks
        assert not twice.deep._forward_hooks
        twice(torch.ones(6, 2, 3).double()).sum().backward()
