"""Privacy cost of a run, computed from its settings before its first round."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache

from client.privacy.accountant import Epsilon, Steps, solve_noise_multiplier, spent
from common.config.run_config import PrivacyConfig, RunConfig

log = logging.getLogger("fedvitals.gate")


@dataclass(frozen=True)
class RunPlan:
    """Privacy cost of a run, as its settings determine it.

    Attributes:
        round_steps: noisy steps of one round.
        rounds: number of rounds of the run.
        delta: delta of the run's guarantee.
        clip_norm: largest norm of a patient's gradient in a step.
        epsilon: epsilon of the whole run at `delta`.
    """

    round_steps: Steps
    rounds: int
    delta: float
    clip_norm: float
    epsilon: Epsilon

    def facts(self) -> dict[str, float | int]:
        """Return the guarantee by its names in a report, without the prefix ``privacy.``."""
        return {
            "epsilon": self.epsilon.prv,
            "epsilon-rdp": self.epsilon.rdp,
            "delta": self.delta,
            "noise-multiplier": self.round_steps.noise_multiplier,
            "sample-rate": self.round_steps.sample_rate,
            "clip-norm": self.clip_norm,
            "steps": self.round_steps.steps * self.rounds,
        }

    def remaining(self, round_number: int, *, answered: bool = False) -> Steps:
        """Return the noisy steps from a round to the run's end, without the round if answered."""
        one = self.round_steps
        rounds = max(0, self.rounds - round_number) + (0 if answered else 1)
        return Steps(one.sample_rate, one.noise_multiplier, rounds * one.steps)


def plan_of(config: RunConfig) -> RunPlan:
    """Compute a private run's plan; solving for the noise multiplier takes seconds.

    Raises:
        PrivacyError: if no noise multiplier reaches the requested epsilon.
    """
    return _plan(config.privacy, config.rounds, config.private_steps)


# Solving for the noise takes seconds; each message of a run needs the same plan.
@lru_cache(maxsize=256)
def _plan(privacy: PrivacyConfig, rounds: int, round_steps: int) -> RunPlan:
    steps = rounds * round_steps
    rate, delta = privacy.sample_rate, privacy.delta
    sigma = privacy.noise_multiplier
    if not sigma:
        log.info("solving the noise for epsilon %g in %d steps", privacy.epsilon, steps)
        sigma = solve_noise_multiplier(privacy.epsilon, delta, rate, steps)
    return RunPlan(
        Steps(rate, sigma, round_steps),
        rounds,
        delta,
        privacy.clip_norm,
        spent([Steps(rate, sigma, steps)], delta),
    )
