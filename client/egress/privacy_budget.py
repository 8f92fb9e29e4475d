"""The hospital's privacy budget, counted by the node from its own audit log.

Before a private round starts, the node computes from the run's settings what the round costs, and
writes a line ``reserved`` into the audit log; from then on the round is spent, whatever becomes of
it. A run without privacy is entered once, as unbounded. The sum of all lines is held against the
policy's budget by a filter that is proved for runs chosen one after the other
(`client.privacy.budget_filter`). Neither the app, the run's name nor the site's name plays a part:
all that the node ever answered for is one hospital's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from client.egress.server_request import Question
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from client.privacy.accountant import Epsilon, Steps, solve_noise_multiplier, spent
from client.privacy.budget_filter import BudgetFilter
from common.config.run_config import PrivacyConfig, RunConfig

log = logging.getLogger("fedvitals.gate")

_COORDINATORS_OWN = frozenset({"data", "out", "resume"})
"""Settings that no site reads. A run that goes on has another `resume` than when it began."""


@dataclass(frozen=True)
class RunPlan:
    """Privacy of a run as its settings decide it.

    Attributes:
        round_steps: the noisy steps of one round.
        rounds: of the whole run.
        delta: of the run's guarantee.
        clip_norm: largest norm of a patient's gradient in a step.
        epsilon: of the whole run at `delta`.
    """

    round_steps: Steps
    rounds: int
    delta: float
    clip_norm: float
    epsilon: Epsilon

    def facts(self) -> dict[str, float | int]:
        """Return the guarantee by the names that a report states it by, without ``privacy.``."""
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
        """Return the steps from a round on, this round's included unless it is answered."""
        one = self.round_steps
        rounds = max(0, self.rounds - round_number) + (0 if answered else 1)
        return Steps(one.sample_rate, one.noise_multiplier, rounds * one.steps)


def plan_of(config: RunConfig) -> RunPlan:
    """Compute a private run's plan; where the noise has to be solved for, that takes seconds.

    Raises:
        PrivacyError: where no noise is enough for the epsilon that the settings ask for.
    """
    return _plan(config.privacy, config.rounds, config.private_steps)


class PrivacyBudget:
    """What the audit log says that all runs have spent.

    Args:
        entries: the lines of the audit log, the oldest first.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._steps: Counter[tuple[float, float]] = Counter()
        self._of_run: Counter[str] = Counter()
        self._unbounded: set[str] = set()
        self._sent: dict[tuple[object, ...], str] = {}
        self._plans: dict[object, Steps] = {}
        for entry in entries:
            self.note(entry)

    @property
    def history(self) -> list[Steps]:
        """All noisy steps that are spent, those of a kind added up."""
        return [Steps(q, sigma, steps) for (q, sigma), steps in self._steps.items()]

    @property
    def unbounded(self) -> frozenset[str]:
        """The runs that were made without privacy."""
        return frozenset(self._unbounded)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Take a line of the audit log into account."""
        if entry.get("decision") == "reserved":
            self._spend(str(entry.get("run")), entry.get("privacy"))
        elif entry.get("decision") == "sent" and entry.get("kind") == "train":
            if "received" in entry:
                self._sent[_key(entry)] = entry["adapter"]["sha256"]
            else:
                self._note_former(entry)

    def check(self, question: Question, policy: Policy, *, anew: bool = False) -> None:
        """Refuse a run that the budget cannot carry.

        A round to train has to leave room for the run's rounds after it, so that no run begins that
        could not end by itself. A round that was answered before needs none of its own: the same
        bytes cost nothing. A question to join has to leave room for one round: it does not say
        whether the run begins or goes on.

        Args:
            question: of the run; the rounds before it are spent already.
            policy: with the budget.
            anew: that a round which was answered before has been trained again.

        Raises:
            RefusedError: where the run is not private, or would exceed the budget.
        """
        if not policy.budget_epsilon:
            return
        if not question.private or question.config is None:
            raise RefusedError("budget", "a run without privacy, which no budget covers")
        if question.kind == "evaluate":
            return  # validates, trains nothing
        plan = plan_of(question.config)
        if question.kind == "train" and question.round is not None:
            answered = not anew and bool(self._sent.get(_key_of(question)))
            self._admit(plan.remaining(question.round.number, answered=answered), policy)
        else:
            self._admit(plan.round_steps, policy)

    def check_spent(self, policy: Policy) -> None:
        """Refuse an answer where more is spent than the policy now allows.

        Raises:
            RefusedError: where the budget is exceeded.
        """
        if policy.budget_epsilon:
            self._admit(Steps(0.0, 1.0, 0), policy)

    def _admit(self, more: Steps, policy: Policy) -> None:
        budget = BudgetFilter(policy.budget_epsilon, policy.budget_delta)
        if self._unbounded:
            raise RefusedError(
                "budget",
                f"run {min(self._unbounded)} was made without privacy, and no budget covers it; "
                "to begin anew, for other patients, put the audit log away",
            )
        if not budget.admits(self.history, more):
            raise RefusedError(
                "budget",
                f"{share_spent(budget, self.history):.0%} of the budget is spent and the run would "
                f"bring it to {share_spent(budget, [*self.history, more]):.0%} of epsilon "
                f"{policy.budget_epsilon:g} at delta {policy.budget_delta:g}",
            )

    def reservation(self, question: Question) -> dict[str, Any] | None:
        """Return what a round spends, for its line in the audit log; None where it spends nothing.

        A run without privacy is entered once.

        Raises:
            RefusedError: where the run has taken all its steps. The epsilon that is stated of it,
                and that the policy allows one run, is that of these.
        """
        run = "" if question.round is None else question.round.run
        if question.private and question.config is not None:
            plan = plan_of(question.config)
            steps, most = plan.round_steps, plan.rounds * plan.round_steps.steps
            if self._of_run[run] + steps.steps > most:
                raise RefusedError("privacy", f"run {run} has spent its {most} steps")
            return {
                "sample-rate": steps.sample_rate,
                "noise-multiplier": steps.noise_multiplier,
                "steps": steps.steps,
            }
        return None if run in self._unbounded else {}

    def sent_before(self, entry: Mapping[str, Any]) -> str:
        """Return the SHA-256 of the adapter that the same question was answered with, if it was.

        Args:
            entry: the line of the question, which names all that an answer depends on.
        """
        return self._sent.get(_key(entry), "")

    def _spend(self, run: str, privacy: Mapping[str, Any] | None) -> None:
        if not privacy:
            self._unbounded.add(run)
            return
        q, sigma = float(privacy["sample-rate"]), float(privacy["noise-multiplier"])
        self._steps[q, sigma] += int(privacy["steps"])
        self._of_run[run] += int(privacy["steps"])

    def _note_former(self, entry: Mapping[str, Any]) -> None:
        """A line of a release that reserved nothing: the run's whole plan counts, once."""
        run, said = str(entry.get("run")), entry.get("metrics") or {}
        names = ("privacy.sample-rate", "privacy.noise-multiplier", "privacy.steps")
        if not all(name in said for name in names):
            self._unbounded.add(run)
        elif run not in self._plans:
            q, sigma, steps = (said[name] for name in names)
            self._plans[run] = Steps(q, sigma, steps)
            self._steps[q, sigma] += steps


def share_spent(budget: BudgetFilter, history: Iterable[Steps]) -> float:
    """Return the share of a budget that some steps spend: costs at the filter's order add up."""
    return budget.spent(history) / budget.budget


def _key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    """All that the answer to a round depends on, as the audit log has it."""
    changed = (entry.get("settings") or {}).get("changed") or {}
    settings = frozenset(item for item in changed.items() if item[0] not in _COORDINATORS_OWN)
    names = ("run", "round", "bundle", "received")
    return (*(entry.get(name) for name in names), settings)


def _key_of(question: Question) -> tuple[object, ...]:
    """The same of a question."""
    name, settings = question.round, question.facts.settings
    entry = {
        "run": None if name is None else name.run,
        "round": None if name is None else name.number,
        "bundle": question.facts.bundle or None,
        "received": question.received,
        "settings": None if settings is None else settings.record(),
    }
    return _key(entry)


# Solving the noise takes seconds; a run asks for the same plan with each of its messages.
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
