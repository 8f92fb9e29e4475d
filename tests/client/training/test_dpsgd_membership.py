"""An attack that would find a broken mechanism: was this patient in the training or not?

The attacker is the server at its strongest: it knows every other patient, the adapter before and
after, and the canary's own gradient, and looks how far the update moved along it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from opacus.accountants.utils import create_accountant

from client.training.dpsgd import train_privately
from client.training.random_source import Randomness
from common.backbones.lora import adapted_backbone, lora_parameters
from common.config.run_config import PrivacyConfig, RunConfig, TrainConfig
from common.data.windows import Windows
from simulation.attacks.membership import ATTACK_SETTINGS
from simulation.attacks.worlds import make_worlds, scratch_folder
from tests.client.training.linear_backbone import LinearBackbone, linear_model, linear_windows

RUNS = 600
SIGMA, RATE, STEPS = 1.2, 0.5, 3
CANARY = 3
Array = npt.NDArray[np.float64]


def windows_with(canary: bool) -> Windows:
    """Four patients of three windows; the last one's targets lie far off, or it is not there."""
    windows = linear_windows([3, 3, 3, 3])
    windows.target[windows.patient == CANARY] = 50.0
    if canary:
        return windows
    without = windows.take(windows.patient != CANARY)
    return replace(without, patient_ids=windows.patient_ids[:CANARY])


def updates(canary: bool, noise: float, seed: int) -> Array:
    """Return the length of each run's update against the canary's gradient."""
    windows, model = windows_with(canary), linear_model()
    named = lora_parameters(model)
    start = [weight.detach().clone() for _, weight in named]
    direction = canary_direction()
    scores = []
    for run in range(RUNS):
        with torch.no_grad():
            for (_, weight), first in zip(named, start, strict=True):
                weight.copy_(first)
        train_privately(
            model,
            LinearBackbone(),
            windows,
            TrainConfig(),
            PrivacyConfig(noise_multiplier=SIGMA, clip_norm=0.5, sample_rate=RATE),
            patients=4,
            trained="b",
            learning_rate=1e-3,  # so small that each step sees the same adapter
            noise_multiplier=noise,
            steps=STEPS,
            randomness=Randomness.of_seed(seed * RUNS + run),
        )
        moved = [weight.detach() - first for (_, weight), first in zip(named, start, strict=True)]
        scores.append(sum(float((m * d).sum()) for m, d in zip(moved, direction, strict=True)))
    return np.array(scores)


def canary_direction() -> list[torch.Tensor]:
    windows, model = windows_with(True), linear_model()
    alone = windows.take(windows.patient == CANARY)
    backbone = LinearBackbone()
    batch = backbone.collate(alone.context, alone.target, alone.vital)
    backbone.window_loss(model, batch).mean().backward()  # type: ignore[no-untyped-call]
    return [
        torch.zeros_like(weight) if weight.grad is None else -weight.grad
        for _, weight in lora_parameters(model)
    ]


def advantage(without: Array, with_canary: Array) -> float:
    """True less false positive rate of the threshold that is best on half of the runs.

    Measured on the other half, so that the choice of the threshold adds nothing.
    """
    half = len(without) // 2

    def difference(threshold: float, part: slice) -> float:
        return float((with_canary[part] > threshold).mean() - (without[part] > threshold).mean())

    chosen, judged = slice(0, half), slice(half, None)
    best = max(
        np.concatenate([without[chosen], with_canary[chosen]]),
        key=lambda threshold: difference(threshold, chosen),
    )
    return difference(best, judged)


def allowed_advantage(noise_multiplier: float) -> float:
    """The most that (epsilon, delta) allows (Kairouz et al., ICML 2015), at its sharpest delta."""
    bounds = []
    for delta in (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        accountant = create_accountant("prv")
        accountant.history = [(noise_multiplier, RATE, STEPS)]
        epsilon = accountant.get_epsilon(delta=delta)
        bounds.append((math.expm1(epsilon) + 2 * delta) / (math.exp(epsilon) + 1))
    return min(bounds)


def margin(runs: int) -> float:
    """Of an advantage measured on half of the runs: 99 % one-sided, whatever the two rates are."""
    return 2.33 * math.sqrt(2 * 0.25 / (runs // 2))


@pytest.mark.slow
def test_the_attack_is_within_the_guarantee_and_succeeds_without_noise() -> None:
    allowed = allowed_advantage(SIGMA)
    assert 0.2 < allowed < 0.4  # a bound that says something
    gained = advantage(updates(False, SIGMA, 1), updates(True, SIGMA, 2))
    assert gained - margin(RUNS) <= allowed
    # The attack is a strong one: it gains most of what there is to gain.
    assert gained + margin(RUNS) >= 0.6 * allowed
    broken = advantage(updates(False, 0.0, 3), updates(True, 0.0, 4))
    assert broken - margin(RUNS) > allowed


@pytest.mark.slow
def test_the_same_holds_from_the_table_to_the_encoded_adapter(tiny_bolt: Path) -> None:
    """The whole path with sampling, over a table and the same table without one patient."""
    runs, patients = 100, 3
    settings = {
        **ATTACK_SETTINGS,
        "backbone": str(tiny_bolt),
        "train.steps": STEPS,
        "privacy.noise-multiplier": SIGMA,
        "privacy.sample-rate": RATE,
        "privacy.learning-rate": 1e-3,
    }
    adapted_backbone.cache_clear()
    config = RunConfig.parse(settings)
    everyone = config.replace(privacy=config.privacy.replace(sample_rate=1.0))
    with scratch_folder() as folder:
        whole, less = make_worlds(folder / "all", everyone, patients, patients, 0)
        direction = whole.reply(0, noise=False) - less.reply(0, noise=False)
        worlds = make_worlds(folder / "some", config, patients, patients, 0)

        def gained(noise: bool) -> float:
            scores = [
                np.array([world.reply(run, noise=noise) @ direction for run in range(runs)])
                for world in worlds
            ]
            return advantage(scores[1], scores[0])

        assert gained(noise=True) - margin(runs) <= allowed_advantage(SIGMA)
        assert gained(noise=False) - margin(runs) > allowed_advantage(SIGMA)
