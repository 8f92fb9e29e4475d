"""Privacy budget of one round at a site, from the server's request to the reply.

    session = open_session(...)               # solves the noise, fixes the run's plan
    reply = session.kept_reply(received)      # requested before: the same reply, at no cost
    if reply is None:
        session.reserve(received)             # refuses, or counts the round's steps as spent
        ...                                   # train with session.plan.noise_multiplier
        session.keep(reply)

The server sets the privacy settings; the site's own limit bounds them.
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
    """A site's limit for the epsilon of all runs together.

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
    """Budget of one round of a private run at a site; made by `open_session`.

    Attributes:
        plan: plan of the whole run.
        epsilon: epsilon of the whole run at the plan's delta.
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

    def kept_reply(self, received: str) -> bytes | None:
        """Return the earlier reply to this round from the same adapter, or None.

        Sending the same bytes again reveals nothing new about any patient. So a server that lost
        them gets them at no cost, and a resumed run can end within its budget.

        Args:
            received: digest of the adapter that the server sent.
        """
        return self.ledger.kept_reply(self.run, self.site, self.round_number, received)

    def reserve(self, received: str) -> None:
        """Count the round's steps as spent, on disk; call it before the first of them.

        Args:
            received: digest of the adapter that the server sent.

        Raises:
            PrivacyError: where the plan has too few steps left, or the run would exceed the site's
                limit; nothing is counted then.
        """
        while self._reservation is None:
            version = None
            if self.limit is not None:
                version = self._check_limit(self.limit)
            # None where another run spent while this one was checked: check again.
            self._reservation = self.ledger.reserve(
                self.run, self.site, self.round_number, self.round_steps, received, version=version
            )

    def keep(self, reply: bytes) -> None:
        """Store the reply, before it is sent.

        Args:
            reply: the encoded adapter as it will be sent.

        Raises:
            PrivacyError: where the round was not reserved, or the ledger cannot be written.
        """
        if self._reservation is None:
            raise PrivacyError(
                f"round {self.round_number} of run {self.run} was trained without a reservation; "
                "its reply is not sent: reserve before training"
            )
        self.ledger.keep(self._reservation, reply)

    def facts(self) -> dict[str, float | str]:
        """Return the run's privacy parameters; none of them depends on a patient."""
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

    def _check_limit(self, limit: EpsilonLimit) -> int:
        """Check the whole run against the site's limit; return the ledger version checked.

        All tables count together. A new export has another digest but holds mostly the same
        patients, so a count for each digest would start anew with every export.
        """
        history, version = self.ledger.other_runs(self.run, self.site)
        note = f"{version} {limit.epsilon!r} {limit.delta!r}"
        if self.ledger.last_check(self.run, self.site) == note:
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
        self.ledger.store_check(self.run, self.site, note)
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
    """Open the budget of a private round at a site; nothing is counted as spent yet.

    Args:
        state: the site's state folder, which holds its ledger.
        privacy: the run's settings, with privacy on.
        site: the site's name in its node's configuration; not a name from the server, since
            spending is counted by it.
        table_digest: SHA-256 of the site table.
        run: the run's id, from the server.
        round_number: 1 to `rounds`.
        rounds: rounds of the whole run.
        round_steps: steps of each round.
        limit: the site's own limit; None for none.

    Raises:
        PrivacyError: where epsilon is out of reach, the run is known with another plan or table,
            or the ledger cannot be used.
    """
    if not 1 <= round_number <= rounds:
        raise PrivacyError(
            f"the server requests round {round_number} of {rounds}; it is not one of fedvitals, "
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


def _noise(ledger: Ledger, privacy: PrivacyConfig, steps: int) -> float:
    """Solve the noise multiplier of a plan, cached: it takes seconds, and a round is a process."""
    given = (privacy.epsilon, privacy.delta, privacy.sample_rate, steps)
    key = f"noise multiplier {given!r} by {_accountant()}"
    cached = ledger.cached(key)
    if cached is not None:
        return float(json.loads(cached))
    sigma = solve_noise_multiplier(*given)
    ledger.cache(key, json.dumps(sigma))
    return sigma


def _epsilon(ledger: Ledger, plan: Plan) -> Epsilon:
    key = f"epsilon {(plan.whole(), plan.delta)!r} by {_accountant()}"
    cached = ledger.cached(key)
    if cached is not None:
        return Epsilon(*json.loads(cached))
    epsilon = spent([plan.whole()], plan.delta)
    ledger.cache(key, json.dumps([epsilon.prv, epsilon.rdp, epsilon.accountant]))
    return epsilon


def _accountant() -> str:
    """Version of the computation, part of each cache key."""
    return f"opacus {metadata.version('opacus')}, accountant {VERSION}"


def check_without_privacy(site: str, limit: EpsilonLimit | None) -> None:
    """Refuse a run without privacy at a site with a limit: its epsilon is infinite.

    Raises:
        PrivacyError: where the site has a limit.
    """
    if limit is not None:
        raise PrivacyError(
            f"site {site!r} has epsilon-limit = {limit.epsilon:g}, and the run has privacy off, "
            "which no limit covers; run with privacy.epsilon, or remove the site's epsilon-limit"
        )
