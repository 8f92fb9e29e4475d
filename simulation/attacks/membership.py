"""Membership inference attack: was one patient in the site's table, given the site's replies?

The attacker is the strongest possible coordinator: it chose the settings and the adapter that it
sent, and knows every other patient and both replies without noise, and so the direction in which
the patient moves a reply. The patient is the worst case, whose gradient is clipped to C. Two scores
are used: the projection of a reply onto that direction, which is optimal for two Gaussians of equal
deviation, and the strength of its noise, which reveals the divisor of the steps. The measured
epsilon must not exceed the claimed one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.config.run_config import RunConfig
from simulation.attacks.bounds import EpsilonBound, bound_epsilon
from simulation.attacks.worlds import Array, World, make_worlds

ATTACK_SETTINGS = {
    "lora.rank": 32,  # many numbers, which estimate the strength of the noise well
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
"""A round of one step with every patient, clipped well below every gradient's norm."""

OnTrial = Callable[[], None]


@dataclass(frozen=True)
class Attack:
    """Measured bounds at one claimed epsilon.

    Attributes:
        claimed: epsilon of the run; None for a site that omits the noise.
        noise_multiplier: sigma; 0 without noise.
        part: norm of the patient's contribution to a step, in clip norms; 1 in the worst case.
        membership: bound from the direction of the patient's gradient.
        strength: bound from the strength of the noise.
    """

    claimed: float | None
    noise_multiplier: float
    part: float
    membership: EpsilonBound
    strength: EpsilonBound


def attack_membership(
    folder: Path,
    backbone: str,
    *,
    claimed: float | None,
    delta: float,
    patients: int,
    trials: int,
    seed: int,
    on_trial: OnTrial = lambda: None,
) -> Attack:
    """Measure epsilon from a site's replies, with and without one patient in its table.

    Args:
        folder: folder of the tables and the site's states; best in memory, since each trial writes
            a ledger.
        backbone: name or folder.
        claimed: epsilon that the run requests; None for a site that omits its noise.
        delta: delta of the guarantee.
        patients: patients in the larger table; the site declares this number in both cases.
        trials: trials of each table.
        seed: seed of everything random.
        on_trial: called after every trial.
    """
    pairs = {"backbone": backbone, "privacy.epsilon": claimed or 1.0, "privacy.delta": delta}
    config = RunConfig.parse({**ATTACK_SETTINGS, **pairs})
    worlds = make_worlds(folder, config, patients, patients, seed)
    centres = [world.reply(0, noise=False) for world in worlds]
    middle, apart = (centres[0] + centres[1]) / 2, centres[0] - centres[1]
    length = float(np.linalg.norm(apart))
    along, strength = [], []
    for world in worlds:
        moved = _moved(world, middle, trials, claimed is not None, on_trial)
        along.append(moved @ apart / max(length, 1e-300))
        strength.append(np.linalg.norm(moved, axis=1))
    return Attack(
        claimed=claimed,
        noise_multiplier=0.0 if claimed is None else worlds[0].noise_multiplier(),
        part=length * patients / config.privacy.learning_rate,
        membership=bound_epsilon(along[0], along[1], delta),
        strength=bound_epsilon(strength[0], strength[1], delta),
    )


def _moved(world: World, middle: Array, trials: int, noise: bool, on_trial: OnTrial) -> Array:
    """Return a world's replies, [T, numbers], relative to the middle of the two worlds."""
    moved = np.empty((trials, len(middle)))
    for trial in range(trials):
        moved[trial] = world.reply(trial, noise=noise) - middle
        on_trial()
    return moved
