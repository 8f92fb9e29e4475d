"""One private round at a site, from the server's order to the answer: what it may cost, and costs.

    session = open_session(...)                 # solves the noise, fixes the run's plan
    answer = session.kept_answer(received)      # asked before? then the same answer, at no cost
    if answer is None:
        session.reserve(received)               # refuses, or counts the round's steps as spent
        ...                                     # train with session.plan.noise_multiplier
        session.keep(answer)

The privacy settings come from the server; what bounds them is the site's own: its limit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from client.privacy.accountant import VERSION, Epsilon, solve_noise_multiplier, spent
from client.privacy.budget_ledger import Ledger, Plan
from common.config.sections import PrivacyConfig
from common.errors import PrivacyError


@dataclass(frozen=True)
class EpsilonLimit:
    """What a site lets all runs together spend on its patients.

    Attributes:
        epsilon: `epsilon-limit` of the node's configuration.
        delta: `epsilon-limit-delta`, at which all runs are composed.
    """

    epsilon: float
    delta: float = 1e-5

    def __post_init__(self) -> None:
        if not (self.epsilon > 0.0 and 0.0 < self.delta < 1.0):
            raise PrivacyError(
                "epsilon-limit must be above 0 and epsilon-limit-delta between 0 and 1, got "
                f"{self.epsilon:g} and {self.delta:g}; set them in the node's configuration"
            )


@dataclass
class PrivacySession:
    """A site's part in one round of a private run; made by `open_session`.

    Attributes:
        plan: of the whole run.
        epsilon: of the whole run at the plan's delta.
    """

    ledger: Ledger
    site: str
    run: str
    round_number: int
    round_steps: int
    plan: Plan
    epsilon: Epsilon
    limit: EpsilonLimit | None
    _reservation: int | None = field(default=None, repr=False)

    def kept_answer(self, received: str) -> bytes | None:
        """Return the answer that this round had before, if the adapter is the same.

        Sending the same bytes again tells nothing new about any patient; so a server that lost
        them may have them at no cost, and a resumed run can end within its budget.

        Args:
            received: digest of the adapter that the server sent.
        """
        return self.ledger.kept_answer(self.run, self.site, self.round_number, received)

    def reserve(self, received: str) -> None:
        """Count the round's steps as spent, on disk; to be called before the first of them.

        Args:
            received: digest of the adapter that the server sent.

        Raises:
            PrivacyError: where the plan has no such steps left, or the run would exceed the site's
                limit; nothing is counted then.
        """
        while self._reservation is None:
            version = None
            if self.limit is not None:
                version = self._clear(self.limit)
            # None again where another run spent while this one was checked: look once more.
            self._reservation = self.ledger.reserve(
                self.run, self.site, self.round_number, self.round_steps, received, version=version
            )

    def keep(self, answer: bytes) -> None:
        """Keep the answer, before it is sent.

        Args:
            answer: what the server is going to get, whole.

        Raises:
            PrivacyError: where the round was not reserved, or the ledger cannot be written.
        """
        if self._reservation is None:
            raise PrivacyError(
                f"round {self.round_number} of run {self.run} was trained without a reservation; "
                "its answer stays here: reserve before training"
            )
        self.ledger.keep(self._reservation, answer)

    def facts(self) -> dict[str, float | str]:
        """Return what may be told of the run's privacy: nothing in it depends on a patient."""
        return {
            "epsilon": self.epsilon.prv,
            "epsilon-rdp": self.epsilon.rdp,
            "accountant": self.epsilon.accountant,
            "delta": self.plan.delta,
            "noise-multiplier": self.plan.noise_multiplier,
            "sample-rate": self.plan.sample_rate,
            "clip-norm": self.plan.clip_norm,
            "steps": self.plan.steps,
        }

    def _clear(self, limit: EpsilonLimit) -> int:
        """Check the whole run against the site's limit; return the version that was checked.

        All tables count together. A new export is another table by its digest but holds mostly the
        same patients, so a count for each digest would start anew with every export.
        """
        history, version = self.ledger.others(self.run, self.site)
        note = f"{version} {limit.epsilon!r} {limit.delta!r}"
        if self.ledger.cleared(self.run, self.site) == note:
            return version
        total = spent([*history, self.plan.whole()], limit.delta).prv
        if total > limit.epsilon:
            before = spent(history, limit.delta).prv
            raise PrivacyError(
                f"run {self.run} would bring site {self.site!r} to epsilon {total:.2f} at delta "
                f"{limit.delta:g}, above its limit of {limit.epsilon:g}; other runs have spent "
                f"{before:.2f}. Run with less privacy.epsilon or fewer rounds, or raise the site's "
                "epsilon-limit"
            )
        self.ledger.clear(self.run, self.site, note)
        return version


def open_session(
    state: Path,
    privacy: PrivacyConfig,
    *,
    site: str,
    table_digest: str,
    run: str,
    round_number: int,
    rounds: int,
    round_steps: int,
    limit: EpsilonLimit | None,
) -> PrivacySession:
    """Begin a site's part in a private round; nothing is counted as spent yet.

    Args:
        state: the site's state folder, where its ledger lies.
        privacy: the run's settings, with privacy on.
        site: the site's own name for itself, as its node's configuration has it; never one that
            the server made up, since what is spent is counted by it.
        table_digest: SHA-256 of the site table.
        run: the run's id, as the server names it.
        round_number: 1 to `rounds`.
        rounds: of the whole run.
        round_steps: steps of each round.
        limit: the site's own limit; None for none.

    Raises:
        PrivacyError: where epsilon is out of reach, the run is known with another plan or table,
            or the ledger cannot be used.
    """
    if not 1 <= round_number <= rounds:
        raise PrivacyError(
            f"the server asks for round {round_number} of {rounds}; it is not one of fedvitals, "
            "or its settings changed during the run"
        )
    ledger = Ledger(state)
    steps = rounds * round_steps
    plan = Plan(
        sample_rate=privacy.sample_rate,
        noise_multiplier=privacy.noise_multiplier or _noise(ledger, privacy, steps),
        steps=steps,
        delta=privacy.delta,
        clip_norm=privacy.clip_norm,
    )
    ledger.begin(run, site, table_digest, plan)
    epsilon = _epsilon(ledger, plan)
    return PrivacySession(ledger, site, run, round_number, round_steps, plan, epsilon, limit)


def check_without_privacy(site: str, limit: EpsilonLimit | None) -> None:
    """Refuse a run without privacy at a site that has set itself a limit.

    Without noise nothing bounds what a run tells: its epsilon is infinite.

    Raises:
        PrivacyError: where the site has a limit.
    """
    if limit is not None:
        raise PrivacyError(
            f"site {site!r} has epsilon-limit = {limit.epsilon:g}, and the run has privacy off, "
            "which no limit covers; run with privacy.epsilon, or remove the site's epsilon-limit"
        )


def _noise(ledger: Ledger, privacy: PrivacyConfig, steps: int) -> float:
    """Solve the noise once for a plan; solving takes seconds, and each round is a process."""
    given = (privacy.epsilon, privacy.delta, privacy.sample_rate, steps)
    question = f"noise multiplier {given!r} by {_accountant()}"
    known = ledger.recall(question)
    if known is not None:
        return float(json.loads(known))
    sigma = solve_noise_multiplier(*given)
    ledger.remember(question, json.dumps(sigma))
    return sigma


def _accountant() -> str:
    """Name what computes: what another version of it computed is not this one's answer."""
    return f"opacus {metadata.version('opacus')}, accountant {VERSION}"


def _epsilon(ledger: Ledger, plan: Plan) -> Epsilon:
    question = f"epsilon {(plan.whole(), plan.delta)!r} by {_accountant()}"
    known = ledger.recall(question)
    if known is not None:
        return Epsilon(*json.loads(known))
    epsilon = spent([plan.whole()], plan.delta)
    ledger.remember(question, json.dumps([epsilon.prv, epsilon.rdp, epsilon.accountant]))
    return epsilon
