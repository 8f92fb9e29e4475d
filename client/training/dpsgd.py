"""Patient-level DP-SGD (Abadi et al., arXiv 1607.00133).

A step samples patients, clips the gradient of each to a norm of at most C, sums them and adds
Gaussian noise of deviation sigma C to every coordinate. Adding or removing one patient, with any
data, changes the sum by at most C; the noise covers that change as (epsilon, delta) says.
Everything after it, from the division to the optimiser and FedProx, is post-processing of the noisy
sum and costs no budget.

The divisor is q times the number of patients that the site declares. It must not be counted: the
magnitude of the noise reveals it, and a count would distinguish a table from the same table without
one patient. A step without any sampled patient, or any window, is a step of noise alone.

The optimiser is SGD on the gradient divided by the clip norm, so that the learning rate does not
depend on C (De et al., arXiv 2204.13650). Adam divides by its estimate of the gradient's magnitude,
which here is that of the noise, the same everywhere; and its first steps keep little more than
signs, in which noise counts as much as the gradient.

The declared number, the settings and the number of steps are public.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from client.training.adapter_training import TrainingResult, autocast, pull_towards, to_device
from client.training.clipping import clip_factors, clipped
from client.training.patient_gradients import NamedParameters, patient_gradients
from client.training.poisson_sampling import Draw, draw_patients
from client.training.random_source import Randomness
from common.backbones.base import Backbone, Batch
from common.backbones.lora import trained_parameters
from common.config.run_config import PrivacyConfig, TrainConfig
from common.data.windows import Windows
from common.errors import PrivacyError, TrainingError

ROWS_TOGETHER = 64
"""Batch sizes are multiples of this: 16 float32 numbers of an AVX-512 vector, two vectors at once,
twice as many numbers of half the length. torch computes the remainder of a tensor one number at a
time, with functions that round differently."""


@dataclass(frozen=True, eq=False)
class PatientSum:
    """Sums over the P patients of a draw.

    Attributes:
        gradients: by name, the sum of the clipped gradients, in double precision on the CPU.
        loss: the sum of the patients' finite losses. Private: no noise covers it.
        patients: number of finite losses. Private as well.
    """

    gradients: dict[str, Tensor]
    loss: float
    patients: int


def train_privately(
    model: torch.nn.Module,
    backbone: Backbone,
    windows: Windows,
    train: TrainConfig,
    privacy: PrivacyConfig,
    *,
    patients: int,
    trained: str,
    learning_rate: float,
    noise_multiplier: float,
    steps: int,
    randomness: Randomness,
) -> TrainingResult:
    """Train a model's adapter in place with patient-level differential privacy.

    Args:
        model: a model with an adapter, on the device of the training.
        backbone: the model's family.
        windows: the site's training windows; there may be none.
        train: weight decay and FedProx; its batch, epochs, steps and clip do not apply.
        privacy: clip norm, sampling rate and windows a patient; the caller keeps the budget.
        patients: the declared number of patients; a step is divided by q times it.
        trained: ``ab``, or ``b`` for FFA-LoRA, where A is frozen.
        learning_rate: this round's rate, for gradients divided by the clip norm.
        noise_multiplier: sigma, the noise's deviation in clip norms.
        steps: steps to take; a step without a sampled patient counts too.
        randomness: source of the sampling and the noise.

    Returns:
        Steps and mean loss of the sampled patients. The loss is private and without noise; the
        caller decides whether it is sent.

    Raises:
        TrainingError: where a matrix is not finite in the end, which depends on noisy sums only.
        PrivacyError: where no number of patients is declared.
    """
    if patients < 1:
        raise PrivacyError(
            "a private step is divided by the declared number of patients, at least 1, "
            f"got {patients}"
        )
    device = next(model.parameters()).device
    everything: Batch = {}
    if len(windows):
        everything = backbone.collate(windows.context, windows.target, windows.vital)
    divisor = privacy.sample_rate * patients * privacy.clip_norm
    rows = batch_rows(privacy, patients)
    loss, counted = 0.0, 0
    model.eval()  # dropout of the base would be noise that the accountant does not cover
    with trained_parameters(model, trained) as named, _unvalidated():
        parameters = [parameter for _, parameter in named]
        anchors = [parameter.detach().clone() for parameter in parameters]
        optimiser = torch.optim.SGD(parameters, lr=learning_rate, weight_decay=train.weight_decay)
        for _ in range(steps):
            draw = draw_patients(
                windows.patient,
                len(windows.patient_ids),
                privacy.sample_rate,
                privacy.patient_windows,
                randomness,
            )
            drawn = sum_clipped(model, backbone, everything, named, draw, privacy.clip_norm, rows)
            noisy = add_noise(drawn.gradients, noise_multiplier * privacy.clip_norm, randomness)
            for name, parameter in named:
                step = noisy[name] / divisor
                parameter.grad = step.to(parameter.dtype).to(device)
            pull_towards(parameters, anchors, train.proximal)
            optimiser.step()
            loss, counted = loss + drawn.loss, counted + drawn.patients
        optimiser.zero_grad(set_to_none=True)
        _check_finite(named, learning_rate)
    return TrainingResult(steps, loss / counted if counted else 0.0)


def batch_rows(privacy: PrivacyConfig, patients: int) -> int:
    """Return the batch size in windows, the same for every table of a site.

    It is the largest mean number of windows in a step, at least one patient's and at most `chunk`,
    rounded up to a multiple of `ROWS_TOGETHER`.

    Args:
        privacy: sampling rate, windows a patient and chunk.
        patients: the declared number of patients.
    """
    most = privacy.patient_windows
    expected = math.ceil(privacy.sample_rate * patients * most)
    return ROWS_TOGETHER * math.ceil(min(privacy.chunk, max(most, expected)) / ROWS_TOGETHER)


@contextmanager
def _unvalidated() -> Iterator[None]:
    """Keep torch's distributions from raising at parameters that are NaN.

    They may depend on one patient, so that an error would reveal the patient; the clipping sets
    such a gradient to zero.
    """
    # torch's own default is the interpreter's __debug__.
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(__debug__)


def sum_clipped(
    model: torch.nn.Module,
    backbone: Backbone,
    everything: Batch,
    parameters: NamedParameters,
    draw: Draw,
    clip_norm: float,
    rows: int,
) -> PatientSum:
    """Return the sum of the sampled patients' gradients, each clipped over all matrices together.

    A patient's loss is the mean over its windows of the draw. Every batch has the same number of
    windows: a matrix product may round differently in a smaller batch, and removing one patient
    would change the contributions of the others.

    Args:
        model: the model, in eval mode.
        backbone: the model's family.
        everything: all windows of the site, on the CPU.
        parameters: the trained matrices, by name.
        draw: the sampled windows; an empty draw gives zeros.
        clip_norm: C, the largest norm of a patient's contribution.
        rows: windows of a batch, at least one patient's; a smaller batch is padded.
    """
    device = next(model.parameters()).device
    total = {
        name: torch.zeros(weight.shape, dtype=torch.float64, device="cpu")
        for name, weight in parameters
    }
    loss, counted = 0.0, 0
    for part in draw.chunks(rows):
        full = _padded(part, rows)
        index = torch.from_numpy(full.rows)
        batch = to_device({name: tensor[index] for name, tensor in everything.items()}, device)
        owner = torch.from_numpy(full.owner).to(device)
        with patient_gradients(model, parameters, owner, full.patients) as gradients:
            with autocast(device):
                losses = backbone.window_loss(model, batch)  # [B]
            mean = _mean_by(owner, full.patients, losses)[: part.patients]  # [P]
            mean.sum().backward()  # type: ignore[no-untyped-call]
        own = {name: gradient[: part.patients] for name, gradient in gradients.items()}
        factors = clip_factors(own, clip_norm)
        for name, gradient in own.items():
            total[name] += clipped(gradient, factors).sum(dim=0).cpu()
        finite = mean.detach()[torch.isfinite(mean)]
        loss, counted = loss + float(finite.sum()), counted + len(finite)
    return PatientSum(total, loss, counted)


def _padded(part: Draw, rows: int) -> Draw:
    """Return a part of a draw padded with its first window, under one more patient to be ignored.

    Args:
        part: at least one window.
        rows: number of windows after padding.
    """
    missing = max(0, rows - len(part.rows))
    return Draw(
        np.concatenate([part.rows, np.full(missing, part.rows[0])]),
        np.concatenate([part.owner, np.full(missing, part.patients)]),
    )


def _mean_by(owner: Tensor, patients: int, losses: Tensor) -> Tensor:
    """Return the mean loss of each patient, [P], from the losses of its windows, [B]."""
    count = torch.bincount(owner, minlength=patients).to(losses.dtype)
    return losses.new_zeros(patients).index_add(0, owner, losses) / count


def add_noise(
    gradients: dict[str, Tensor], deviation: float, randomness: Randomness
) -> dict[str, Tensor]:
    """Add Gaussian noise to every coordinate, in double precision.

    A single-precision sum with single-precision noise has gaps that can reveal the summand
    (Mironov, CCS 2012); here the sum is rounded to single precision only afterwards.
    """
    sizes = [gradient.numel() for gradient in gradients.values()]
    noise = torch.split(torch.from_numpy(randomness.normal(sum(sizes)) * deviation), sizes)
    return {
        name: gradient + part.view_as(gradient)
        for (name, gradient), part in zip(gradients.items(), noise, strict=True)
    }


def _check_finite(parameters: NamedParameters, learning_rate: float) -> None:
    for name, parameter in parameters:
        if not math.isfinite(float(parameter.detach().sum())):
            raise TrainingError(
                f"{name} is no longer finite; lower privacy.learning-rate (this round's is "
                f"{learning_rate:g})"
            )
