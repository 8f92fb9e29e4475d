"""A run's privacy budget at a site: refused, reserved and answered through the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from client.privacy.accountant import Steps, solve_noise_multiplier, spent
from client.privacy.ledger import Ledger, Plan
from common.config import PrivacyConfig
from common.errors import PrivacyError


@dataclass(frozen=True)
class SiteLimit:
    """What a site allows to be spent over all its runs; only the site sets it.

    Attributes:
        epsilon: the limit; 0 = none.
        delta: the delta at which it counts.
    """

    epsilon: float = 0.0
    delta: float = 1e-5


@dataclass(frozen=True)
class PrivacySession:
    """The budget of one run at one site.

    Attributes:
        ledger: the site's ledger.
        run: the run's id.
        site: the site.
        plan: what the run may spend.
        limit: of the site.
    """

    ledger: Ledger
    run: str
    site: str
    plan: Plan
    limit: SiteLimit

    @property
    def noise_multiplier(self) -> float:
        """Sigma, the same in every step of the run."""
        return self.plan.noise_multiplier

    def reserve(self, number: int, steps: int, received: str) -> None:
        """Count a round's steps as spent, on the disk, before the first is taken.

        Raises:
            PrivacyError: where they would exceed the run's plan, or, with what other runs have
                spent since this one began, the site's limit.
        """
        self.ledger.reserve(self.run, self.site, number, received, steps, self._check)

    def _check(self, history: list[Steps]) -> None:
        if self.limit.epsilon > 0:
            _within(self.site, spent(history, self.limit.delta).prv, self.limit)

    def kept_answer(self, number: int, received: str) -> bytes | None:
        """Return the answer that this round, begun with this adapter, has had already."""
        return self.ledger.answer(self.run, self.site, number, received)

    def keep_answer(self, number: int, received: str, answer: bytes) -> None:
        """Keep a round's answer: asked again it is given again, and nothing more is spent."""
        self.ledger.keep_answer(self.run, self.site, number, received, answer)

    def facts(self) -> dict[str, float]:
        """Return what may be told of the guarantee: it depends on settings, and on no patient."""
        return {
            "privacy.epsilon": self.plan.epsilon,
            "privacy.epsilon-rdp": self.plan.epsilon_rdp,
            "privacy.delta": self.plan.delta,
            "privacy.noise-multiplier": self.plan.noise_multiplier,
            "privacy.sample-rate": self.plan.sample_rate,
            "privacy.clip-norm": self.plan.clip_norm,
            "privacy.steps": float(self.plan.steps),
        }


def open_session(
    path: Path,
    *,
    site: str,
    table: str,
    run: str,
    privacy: PrivacyConfig,
    steps: int,
    limit: SiteLimit,
) -> PrivacySession:
    """Open a run's budget, and begin it where this is its first round here.

    Args:
        path: the site's ledger.
        site: the site.
        table: SHA-256 of its site table.
        run: the run's id.
        privacy: what the run promises.
        steps: of the whole run.
        limit: of the site.

    Raises:
        PrivacyError: where the run would exceed the site's limit, or goes on otherwise than it
            began, or the ledger cannot be used.
    """
    ledger = Ledger(path)
    plan = ledger.plan_of(run, site)
    if plan is None or not _is_of(plan, privacy, steps):
        # Solved once a run: it takes seconds, and each round may be a process of its own.
        plan = make_plan(privacy, steps)
        check_limit(ledger, site, plan, limit)
    ledger.begin(run, site, table, plan)
    return PrivacySession(ledger, run, site, plan, limit)


def make_plan(privacy: PrivacyConfig, steps: int) -> Plan:
    """Return what a run spends: noise for its epsilon, or epsilon for its noise.

    Raises:
        PrivacyError: where no noise keeps the epsilon.
    """
    sigma = privacy.noise_multiplier or solve_noise_multiplier(
        privacy.epsilon, privacy.delta, privacy.sample_rate, steps
    )
    epsilon = spent([Steps(privacy.sample_rate, sigma, steps)], privacy.delta)
    return Plan(
        privacy.sample_rate,
        sigma,
        privacy.clip_norm,
        steps,
        epsilon.prv,
        epsilon.rdp,
        privacy.delta,
    )


def check_limit(ledger: Ledger, site: str, plan: Plan, limit: SiteLimit) -> None:
    """Refuse a run that would take a site beyond its limit, before anything is trained.

    Counted is what the site has spent over all its tables: a new export holds mostly the same
    patients, so that its digest must not start the count anew.

    Raises:
        PrivacyError: where the run's whole plan, on top of what is spent, exceeds the limit.
    """
    if limit.epsilon <= 0:
        return
    before = [run.steps for run in ledger.spending(site)]
    planned = Steps(plan.sample_rate, plan.noise_multiplier, plan.steps)
    _within(site, spent([*before, planned], limit.delta).prv, limit)


def _within(site: str, epsilon: float, limit: SiteLimit) -> None:
    if epsilon > limit.epsilon:
        raise PrivacyError(
            f"this run would bring {site} to epsilon {epsilon:.3g} at delta {limit.delta:g}, over "
            f"all its runs; its epsilon-limit is {limit.epsilon:g}: the site may raise its limit, "
            "or the run ask for less"
        )


def _is_of(plan: Plan, privacy: PrivacyConfig, steps: int) -> bool:
    """Whether a plan is what these settings lead to; only then need it not be made again."""
    asked = (privacy.sample_rate, privacy.clip_norm, privacy.delta, steps)
    if (plan.sample_rate, plan.clip_norm, plan.delta, plan.steps) != asked:
        return False
    if privacy.noise_multiplier > 0:
        return plan.noise_multiplier == privacy.noise_multiplier
    return plan.epsilon <= privacy.epsilon
