"""DP-SGD whose unit is the patient (Abadi et al., arXiv 1607.00133).

A step draws patients, clips the gradient of each to a norm of at most C, adds them up and adds
normal noise of deviation sigma C to every coordinate. Whatever one patient's stays hold, and
whether the patient is in the table at all, the sum moves by at most C, which the noise hides as far
as (epsilon, delta) says. All that follows, from dividing by a constant to the optimiser and
FedProx, sees the noised sum alone and spends nothing.

The constant is q times the number of patients that the site declares. It must not be counted: the
strength of the noise shows it, and a number that differs between a table and the same table without
one patient would tell them apart. A site with nothing drawn, or with nothing to train, takes steps
of noise alone.

The optimiser is plain gradient descent on the gradient in clip norms, so that the learning rate
does not depend on C (De et al., arXiv 2204.13650). Adam divides by what it sees of the gradient's
size, which here is the noise's, the same everywhere; and its first steps keep little more than
signs, in which noise counts as much as the gradient.

The declared number is public; so are the settings and the number of steps.
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
"""Windows that a processor's vectors work on at once, or a multiple: 16 single-precision numbers of
AVX-512, two vectors together, twice as many of half the length. What is left over at the end of a
tensor torch computes one by one, with other functions that round otherwise."""


@dataclass(frozen=True, eq=False)
class PatientSum:
    """Of the P patients of a draw.

    Attributes:
        gradients: by name, the sum of the clipped gradients, in double precision on the CPU.
        loss: the sum of the patients' losses, those that are finite. Private: no noise covers it.
        patients: how many losses that are. Private as well.
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
    """Train a model's adapter in place, so that what it becomes hides each single patient.

    Args:
        model: with an adapter on it, on the device where it is to train.
        backbone: the model's family.
        windows: the site's training windows; there may be none.
        train: weight decay and FedProx; its batch, epochs, steps and clip do not apply.
        privacy: clip norm, sampling rate and windows a patient; its budget is the caller's part.
        patients: the number that the site declares; a step is divided by q times it.
        trained: ``ab``, or ``b`` for FFA-LoRA, where A stays as it is.
        learning_rate: this round's rate, for gradients in clip norms.
        noise_multiplier: sigma, the noise's deviation in clip norms.
        steps: steps to take; every one counts, also one that draws nobody and adds noise alone.
        randomness: decides who is drawn, and the noise.

    Returns:
        Steps and mean loss of the patients as they were drawn. The loss is private information:
        nothing hides it, and whether it leaves the site is the caller's to decide.

    Raises:
        TrainingError: where a matrix is not finite in the end, which the noised sums alone decide.
        PrivacyError: where no number of patients is declared.
    """
    if patients < 1:
        raise PrivacyError(f"a private step is divided by a declared number, got {patients}")
    device = next(model.parameters()).device
    everything: Batch = {}
    if len(windows):
        everything = backbone.collate(windows.context, windows.target, windows.vital)
    divisor = privacy.sample_rate * patients * privacy.clip_norm
    rows = batch_rows(privacy, patients)
    loss, counted = 0.0, 0
    model.eval()  # dropout of the base would be noise that no accountant knows
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
            noised = add_noise(drawn.gradients, noise_multiplier * privacy.clip_norm, randomness)
            for name, parameter in named:
                step = noised[name] / divisor
                parameter.grad = step.to(parameter.dtype).to(device)
            pull_towards(parameters, anchors, train.proximal)
            optimiser.step()
            loss, counted = loss + drawn.loss, counted + drawn.patients
        optimiser.zero_grad(set_to_none=True)
        _check_finite(named, learning_rate)
    return TrainingResult(steps, loss / counted if counted else 0.0)


def batch_rows(privacy: PrivacyConfig, patients: int) -> int:
    """Return the windows of every batch of a site, the same whoever is in its table.

    As many as a step draws at most on average, at least one patient's and at most `chunk`, all
    rounded up to `ROWS_TOGETHER`.

    Args:
        privacy: sampling rate, windows a patient and chunk.
        patients: the number that the site declares.
    """
    most = privacy.patient_windows
    expected = math.ceil(privacy.sample_rate * patients * most)
    return ROWS_TOGETHER * math.ceil(min(privacy.chunk, max(most, expected)) / ROWS_TOGETHER)


def sum_clipped(
    model: torch.nn.Module,
    backbone: Backbone,
    everything: Batch,
    parameters: NamedParameters,
    draw: Draw,
    clip_norm: float,
    rows: int,
) -> PatientSum:
    """Return the sum of the drawn patients' gradients, each clipped over all matrices together.

    A patient's loss is the mean over its windows of the draw. Every batch has the same number of
    windows: a product of matrices may be rounded otherwise in a smaller one, and one patient less
    would move what the others add.

    Args:
        model: in eval mode.
        backbone: the model's family.
        everything: all windows of the site, on the CPU.
        parameters: the matrices that are trained, by name.
        draw: who takes part; nobody gives zeros.
        clip_norm: C, the largest norm of a patient's part.
        rows: windows of a batch, at least one patient's; what is short is filled up.
    """
    device = next(model.parameters()).device
    total = {
        name: torch.zeros(weight.shape, dtype=torch.float64, device="cpu")
        for name, weight in parameters
    }
    loss, counted = 0.0, 0
    for part in draw.chunks(rows):
        full = _filled(part, rows)
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


def _filled(part: Draw, rows: int) -> Draw:
    """Return a part of a draw filled up with its first window, of one more patient who counts not.

    Args:
        part: at least one window.
        rows: windows to fill up to.
    """
    missing = max(0, rows - len(part.rows))
    return Draw(
        np.concatenate([part.rows, np.full(missing, part.rows[0])]),
        np.concatenate([part.owner, np.full(missing, part.patients)]),
    )


def _mean_by(owner: Tensor, patients: int, losses: Tensor) -> Tensor:
    """Return each patient's mean, [P], of its windows' losses [B]."""
    count = torch.bincount(owner, minlength=patients).to(losses.dtype)
    return losses.new_zeros(patients).index_add(0, owner, losses) / count


def add_noise(
    gradients: dict[str, Tensor], deviation: float, randomness: Randomness
) -> dict[str, Tensor]:
    """Add normal noise to every coordinate, in double precision.

    A single-precision sum of single-precision noise has gaps that can betray the summand (Mironov,
    CCS 2012); here it is rounded to single precision only afterwards.
    """
    sizes = [gradient.numel() for gradient in gradients.values()]
    noise = torch.split(torch.from_numpy(randomness.normal(sum(sizes)) * deviation), sizes)
    return {
        name: gradient + part.view_as(gradient)
        for (name, gradient), part in zip(gradients.items(), noise, strict=True)
    }


@contextmanager
def _unvalidated() -> Iterator[None]:
    """Keep torch's distributions from raising at parameters that are no numbers.

    Whether they are may depend on one patient; such a gradient counts as zero, and nobody is told.
    """
    # Its default is that of the interpreter, as torch sets it.
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(__debug__)


def _check_finite(parameters: NamedParameters, learning_rate: float) -> None:
    for name, parameter in parameters:
        if not math.isfinite(float(parameter.detach().sum())):
            raise TrainingError(
                f"{name} is no longer finite; lower privacy.learning-rate (this round's is "
                f"{learning_rate:g})"
            )
