"""The membership experiment: was this patient in the table or not, told from what the site sent?

The attacker is whoever runs the coordinator, at its strongest: it chose the settings and the
adapter that was sent, and knows every other patient, both answers as they would be without noise,
and so the direction in which this one patient moves them. The patient is the worst there can be,
whose gradient is clipped to C. Two scores are tried: how far an answer lies in that direction,
which is the best there is where two Gaussians have one deviation; and how strong its noise is,
which tells the number that steps are divided by. Epsilon as measured must not exceed epsilon as
claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.config.run_config import RunConfig
from simulation.attacks.bounds import Measured, measure
from simulation.attacks.worlds import Array, World, make_worlds

SETTINGS = {
    "lora.rank": 32,  # many numbers: they tell well how strong the noise is
    "rounds": 1,
    "train.steps": 1,
    "windows.vitals": "heart_rate",
    "windows.context": 24,
    "windows.horizon": 6,
    "windows.stride": 24,
    "privacy.sample-rate": 1.0,
    "privacy.learning-rate": 1.0,
    "privacy.clip-norm": 1e-3,
}
"""A round of one step with every patient in it, clipped well below every gradient's norm."""

Progress = Callable[[], None]


@dataclass(frozen=True)
class Attack:
    """What was measured at one claimed epsilon.

    Attributes:
        claimed: epsilon of the run; None where the site forgot the noise.
        noise_multiplier: sigma; 0 without noise.
        part: length of the patient's part of a step, in clip norms: 1 for the worst patient.
        membership: by the direction of the patient's gradient.
        strength: by the strength of the noise.
    """

    claimed: float | None
    noise_multiplier: float
    part: float
    membership: Measured
    strength: Measured


def attack_membership(
    folder: Path,
    backbone: str,
    *,
    claimed: float | None,
    delta: float,
    patients: int,
    trials: int,
    seed: int,
    progress: Progress = lambda: None,
) -> Attack:
    """Measure epsilon of a site's answers from its table with and without one patient.

    Args:
        folder: where tables and the site's states go; best in memory, as each trial has a ledger.
        backbone: name or folder.
        claimed: epsilon that the run asks for; None for a site that forgets its noise.
        delta: of the guarantee.
        patients: in the larger table; the site declares as many in both.
        trials: of each table.
        seed: of everything random.
        progress: called after every trial.
    """
    pairs = {"backbone": backbone, "privacy.epsilon": claimed or 1.0, "privacy.delta": delta}
    config = RunConfig.parse({**SETTINGS, **pairs})
    worlds = make_worlds(folder, config, patients, patients, seed)
    centres = [world.answer(0, noise=False) for world in worlds]
    middle, apart = (centres[0] + centres[1]) / 2, centres[0] - centres[1]
    length = float(np.linalg.norm(apart))
    along, strength = [], []
    for world in worlds:
        moved = _moved(world, middle, trials, claimed is not None, progress)
        along.append(moved @ apart / max(length, 1e-300))
        strength.append(np.linalg.norm(moved, axis=1))
    return Attack(
        claimed=claimed,
        noise_multiplier=0.0 if claimed is None else worlds[0].noise_multiplier(),
        part=length * patients / config.privacy.learning_rate,
        membership=measure(along[0], along[1], delta),
        strength=measure(strength[0], strength[1], delta),
    )


def _moved(world: World, middle: Array, trials: int, noise: bool, progress: Progress) -> Array:
    """Return a world's answers, [T, numbers], from the middle between the two worlds'."""
    moved = np.empty((trials, len(middle)))
    for trial in range(trials):
        moved[trial] = world.answer(trial, noise=noise) - middle
        progress()
    return moved
