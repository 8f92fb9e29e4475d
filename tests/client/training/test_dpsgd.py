from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import PeftModel
from torch import Tensor

from client.training.adapter_training import TrainingResult
from client.training.dpsgd import add_noise, sum_clipped, train_privately
from client.training.patient_gradients import NamedParameters
from client.training.poisson_sampling import Draw, draw_patients
from client.training.random_source import Randomness
from common.backbones.base import Batch, weights_digest
from common.backbones.catalog import CATALOG
from common.backbones.lora import (
    AdaptedBackbone,
    adapted_backbone,
    lora_parameters,
    trained_parameters,
)
from common.config.run_config import LoraConfig, PrivacyConfig, TrainConfig
from common.data.windows import Windows
from common.errors import PrivacyError, TrainingError
from tests.client.training.linear_backbone import LinearBackbone, linear_model, linear_windows
from tests.samples.backbones import windows as sample_windows

PACKAGED = [name for name, entry in CATALOG.items() if entry.packaged]
LINEAR = LinearBackbone()
COUNTS = (3, 1, 5, 2, 2, 4)
EVERYONE = Draw(np.arange(17), np.repeat(np.arange(6), COUNTS))
HUGE = 1e4


@pytest.fixture
def model() -> PeftModel:
    return linear_model()


def ordered_windows(seed: int = 0) -> Windows:
    """Windows of six patients, each one's next to each other."""
    windows = linear_windows(COUNTS, seed)
    return replace(windows, patient=EVERYONE.owner)


def batch_of(windows: Windows) -> Batch:
    return LINEAR.collate(windows.context, windows.target, windows.vital)


def flat(gradients: dict[str, Tensor]) -> Tensor:
    return torch.cat([gradients[name].double().flatten() for name in sorted(gradients)])


def patient_gradient(
    model: torch.nn.Module, backbone: object, batch: Batch, rows: list[int], named: NamedParameters
) -> Tensor:
    """The slow way: a patient's windows one by one, their mean, all matrices in one vector."""
    total = torch.zeros(sum(weight.numel() for _, weight in named), dtype=torch.float64)
    for row in rows:
        alone = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        loss = backbone.window_loss(model, alone).sum()  # type: ignore[attr-defined]
        gradients = torch.autograd.grad(loss, [weight for _, weight in named])
        total += torch.cat([gradient.double().flatten() for gradient in gradients]) / len(rows)
    return total


def clipped_alone(gradient: Tensor, clip_norm: float) -> Tensor:
    return gradient * min(1.0, clip_norm / max(float(gradient.norm()), 1e-300))


@pytest.fixture(scope="module", params=PACKAGED)
def adapted(request: pytest.FixtureRequest) -> Iterator[AdaptedBackbone]:
    """A packaged model in double precision, its A and B both random."""
    if CATALOG[request.param].missing_extra:
        pytest.skip(f"{request.param} needs the extra {CATALOG[request.param].missing_extra}")
    adapted_backbone.cache_clear()
    made = adapted_backbone(request.param, LoraConfig(rank=2), torch.device("cpu"))
    made.model.double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(made.model):
            parameter.normal_(0, 0.05, generator=generator)
    yield made
    adapted_backbone.cache_clear()


@pytest.mark.parametrize("trained", ["ab", "b"])
def test_every_family_equals_a_loop_over_patients(adapted: AdaptedBackbone, trained: str) -> None:
    context, target, vital = sample_windows(7)
    # One patient far off: MOIRAI's likelihood is heavy-tailed, and such a gradient is huge.
    target[5:] += 500.0
    owner = np.array([0, 0, 1, 2, 2, 3, 3])
    batch = {
        name: tensor.double() if tensor.is_floating_point() else tensor
        for name, tensor in adapted.backbone.collate(context, target, vital).items()
    }
    with trained_parameters(adapted.model, trained) as named:
        alone = [
            patient_gradient(
                adapted.model, adapted.backbone, batch, np.flatnonzero(owner == who).tolist(), named
            )
            for who in range(4)
        ]
        norms = sorted(float(gradient.norm()) for gradient in alone)
        clip_norm = math.sqrt(norms[1] * norms[2])  # two patients are clipped and two are not
        expected = torch.stack([clipped_alone(gradient, clip_norm) for gradient in alone]).sum(
            dim=0
        )
        got = sum_clipped(
            adapted.model, adapted.backbone, batch, named, Draw(np.arange(7), owner), clip_norm, 4
        )
    difference = float((flat(got.gradients) - expected).norm())
    assert difference < 1e-7 * clip_norm  # the clipping's margin below C
    unclipped = sum_clipped_alone(adapted, batch, owner, trained)
    everything = torch.stack(alone).sum(dim=0)
    assert float((unclipped - everything).norm()) < 1e-7 * float(everything.norm())


def sum_clipped_alone(
    adapted: AdaptedBackbone, batch: Batch, owner: npt.NDArray[np.int64], trained: str
) -> Tensor:
    with trained_parameters(adapted.model, trained) as named:
        draw = Draw(np.arange(len(owner)), owner)
        return flat(
            sum_clipped(adapted.model, adapted.backbone, batch, named, draw, 1e12, 99).gradients
        )


@settings(max_examples=40)
@given(
    scale=st.floats(1e-3, 1e6),
    who=st.integers(0, 5),
    clip_norm=st.floats(1e-3, 1e3),
    trained=st.sampled_from(["ab", "b"]),
    seed=st.integers(0, 1000),
)
def test_one_patient_more_moves_the_sum_by_at_most_c(
    scale: float, who: int, clip_norm: float, trained: str, seed: int
) -> None:
    model = linear_model()
    shake(model)
    windows = ordered_windows(seed)
    windows.target[windows.patient == who] *= np.float32(scale)
    keep = windows.patient != who
    without = Draw(EVERYONE.rows[keep], np.unique(EVERYONE.owner[keep], return_inverse=True)[1])
    with trained_parameters(model, trained) as named:
        sums = [
            flat(sum_clipped(model, LINEAR, batch_of(windows), named, draw, clip_norm, 8).gradients)
            for draw in (EVERYONE, without)
        ]
    # The others' parts are the same numbers; their sum is rounded in double precision alone.
    assert float((sums[0] - sums[1]).norm()) <= clip_norm * (1 + 1e-12)


def shake(model: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(model):
            parameter.normal_(0, 0.5, generator=generator)


def test_a_window_with_overflow_drops_its_patient_only(model: PeftModel) -> None:
    shake(model)
    windows = ordered_windows()
    windows.target[4] = np.inf  # of patient 2
    keep = windows.patient != 2
    without = Draw(EVERYONE.rows[keep], np.unique(EVERYONE.owner[keep], return_inverse=True)[1])
    with trained_parameters(model, "ab") as named:
        hurt, whole = (
            sum_clipped(model, LINEAR, batch_of(windows), named, draw, 0.1, 99)
            for draw in (EVERYONE, without)
        )
    torch.testing.assert_close(flat(hurt.gradients), flat(whole.gradients))
    assert hurt.patients == whole.patients == 5
    assert hurt.loss == pytest.approx(whole.loss)


@pytest.mark.parametrize("chunk", [1, 5, 6, 16])
def test_the_chunk_changes_rounding_only(model: PeftModel, chunk: int) -> None:
    shake(model)
    batch = batch_of(ordered_windows())
    with trained_parameters(model, "ab") as named:
        whole = sum_clipped(model, LINEAR, batch, named, EVERYONE, 0.5, 99)
        parts = sum_clipped(model, LINEAR, batch, named, EVERYONE, 0.5, chunk)
    torch.testing.assert_close(flat(parts.gradients), flat(whole.gradients), rtol=1e-5, atol=1e-7)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-6)
    assert parts.patients == whole.patients == 6


def test_without_noise_clipping_or_sampling_it_is_ordinary_gradient_descent(
    model: PeftModel,
) -> None:
    shake(model)
    windows = ordered_windows()
    batch = batch_of(windows)
    named = lora_parameters(model)
    losses = LINEAR.window_loss(model, batch)
    mean = torch.stack([losses[windows.patient == who].mean() for who in range(6)]).mean()
    gradients = torch.autograd.grad(mean, [weight for _, weight in named])
    expected = [
        weight.detach() - 0.1 * gradient
        for (_, weight), gradient in zip(named, gradients, strict=True)
    ]
    result = train(model, windows, clip_norm=HUGE, learning_rate=0.1 * HUGE, noise=0.0)
    assert result.loss == pytest.approx(float(mean.detach()), rel=1e-6)
    for (_, weight), wanted in zip(named, expected, strict=True):
        torch.testing.assert_close(weight.detach(), wanted)


def train(
    model: torch.nn.Module,
    windows: Windows,
    *,
    clip_norm: float = 0.5,
    rate: float = 1.0,
    noise: float = 1.0,
    steps: int = 1,
    learning_rate: float = 0.1,
    trained: str = "ab",
    seed: int = 3,
    patients: int = 6,
    settings: TrainConfig | None = None,
) -> TrainingResult:
    return train_privately(
        model,
        LINEAR,
        windows,
        settings or TrainConfig(),
        PrivacyConfig(noise_multiplier=1.0, clip_norm=clip_norm, sample_rate=rate),
        patients=patients,
        trained=trained,
        learning_rate=learning_rate,
        noise_multiplier=noise,
        steps=steps,
        randomness=Randomness.of_seed(seed),
    )


NOBODY = Windows(
    context=np.empty((0, 6), np.float32),
    target=np.empty((0, 2), np.float32),
    vital=np.empty(0, np.int64),
    patient=np.empty(0, np.int64),
    patient_ids=(),
)


@pytest.mark.parametrize(("windows", "rate"), [(NOBODY, 1.0), (ordered_windows(), 1e-4)])
def test_an_empty_draw_is_a_step_of_noise_alone(windows: Windows, rate: float) -> None:
    """Its deviation: sigma C over q times the declared number; the gradient is in clip norms."""
    moves = []
    for seed in range(400):
        model = linear_model()
        before = [weight.detach().clone() for _, weight in lora_parameters(model)]
        result = train(
            model, windows, rate=rate, noise=1.5, learning_rate=rate, seed=seed, patients=8
        )
        if not len(windows):
            assert result == TrainingResult(1, 0.0)
        after = [weight.detach() for _, weight in lora_parameters(model)]
        moves += [(new - old).flatten() for new, old in zip(after, before, strict=True)]
    drawn = torch.cat(moves).double().numpy()
    assert drawn.std() == pytest.approx(1.5 / 8, rel=4 / math.sqrt(2 * len(drawn)))
    assert abs(drawn.mean()) < 4 * 0.25 / math.sqrt(len(drawn))


def test_one_declared_number_divides_the_steps_of_neighbouring_tables() -> None:
    """A patient's part is not spread over the others: theirs stay unchanged."""
    windows = ordered_windows()
    keep = windows.patient != 5
    fewer = replace(windows.take(keep), patient_ids=windows.patient_ids[:5])
    moves = []
    for given_ in (windows, fewer, windows.take(windows.patient == 5)):
        model = linear_model()
        before = flat(dict(lora_parameters(model))).detach().clone()
        train(model, given_, noise=0.0, patients=6, learning_rate=1.0)
        moves.append(flat(dict(lora_parameters(model))).detach() - before)
    torch.testing.assert_close(moves[0], moves[1] + moves[2], rtol=0, atol=1e-6)


def test_no_declared_number_is_refused(model: PeftModel) -> None:
    with pytest.raises(PrivacyError, match="at least 1, got 0"):
        train(model, ordered_windows(), patients=0)


def test_losses_that_are_nan_are_no_error(model: PeftModel) -> None:
    windows = ordered_windows()
    windows.target[:] = np.nan
    assert train(model, windows, noise=0.0) == TrainingResult(1, 0.0)


def test_the_noise_does_not_depend_on_what_it_covers() -> None:
    sums = {"a": torch.zeros(30, 40).double(), "b": torch.full((20, 2), 7.0).double()}
    noised = add_noise(sums, 2.5, Randomness.of_seed(1))
    noise = torch.cat([(noised[name] - sums[name]).flatten() for name in sums])
    expected = 2.5 * Randomness.of_seed(1).normal(1240)
    np.testing.assert_allclose(noise.numpy(), expected, rtol=0, atol=1e-12)
    assert noise.std() == pytest.approx(2.5, rel=4 / math.sqrt(2 * 1240))


def test_each_step_draws_anew_and_every_step_is_counted(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Draw] = []

    def spy(*arguments: object) -> Draw:
        drawn.append(draw_patients(*arguments))  # type: ignore[arg-type]
        return drawn[-1]

    monkeypatch.setattr("client.training.dpsgd.draw_patients", spy)
    result = train(model, linear_windows([20] * 30), rate=0.3, steps=20)
    assert result.steps == len(drawn) == 20
    assert len({tuple(draw.rows.tolist()) for draw in drawn}) == 20
    most = max(np.bincount(draw.owner).max() for draw in drawn)
    assert most == PrivacyConfig().patient_windows


def test_ffa_moves_b_and_leaves_a(model: PeftModel) -> None:
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    train(model, ordered_windows(), trained="b")
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) == (".lora_B." not in name), name
        assert weight.requires_grad == (".lora_" in name)
        assert weight.grad is None


def test_a_seed_repeats_the_training_and_the_base_stays(model: PeftModel) -> None:
    digest = weights_digest(model)
    first, again, other = linear_model(), linear_model(), linear_model()
    results = [train(first, ordered_windows()), train(again, ordered_windows())]
    train(other, ordered_windows(), seed=4)
    states = [flat(dict(lora_parameters(each))).detach() for each in (first, again, other)]
    assert results[0] == results[1]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert weights_digest(first) == digest


def test_the_rate_is_in_clip_norms(model: PeftModel) -> None:
    """With every patient clipped, a smaller C changes no step."""
    small, smaller = linear_model(), linear_model()
    for each, clip_norm in ((small, 1e-4), (smaller, 1e-5)):
        train(each, ordered_windows(), clip_norm=clip_norm, trained="b")
    torch.testing.assert_close(
        flat(dict(lora_parameters(small))), flat(dict(lora_parameters(smaller)))
    )


def test_fedprox_keeps_the_adapter_near() -> None:
    distances = []
    for proximal in (0.0, 5.0):
        model = linear_model()
        before = flat(dict(lora_parameters(model))).detach()
        train(model, ordered_windows(), steps=30, settings=TrainConfig(proximal=proximal))
        distances.append(float((flat(dict(lora_parameters(model))).detach() - before).norm()))
    assert distances[1] < 0.7 * distances[0]


def test_it_learns() -> None:
    model = linear_model()
    windows = linear_windows([4] * 200)
    early = train(model, windows, noise=0.5, steps=2, learning_rate=0.5, patients=200)
    late = train(model, windows, noise=0.5, steps=40, learning_rate=0.5, patients=200)
    last = train(model, windows, noise=0.5, steps=2, learning_rate=1e-9, patients=200)
    assert last.loss < late.loss < early.loss


def test_a_training_that_diverges_says_so(model: PeftModel) -> None:
    with pytest.raises(TrainingError, match=r"lower privacy\.learning-rate"):
        train(model, ordered_windows(), steps=3, learning_rate=1e38, clip_norm=0.5, noise=1e6)
