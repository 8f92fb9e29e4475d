"""The hospital's privacy budget over all runs, counted by the node from its own audit log.

Before a private round starts, the node computes the round's cost from the run's settings and
writes a line ``reserved`` into the audit log. From then on the round is spent, even if it fails. A
run without privacy is recorded once, as unbounded. A Rényi filter, which is valid for adaptively
chosen runs (`client.privacy.budget_filter`), checks the sum of all lines against the policy's
budget. App, run and site names play no part: everything that this node replied to counts towards
the one hospital's budget.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from client.config.site_facts import SiteFacts
from client.egress.server_request import ServerRequest
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from client.privacy.accountant import Steps, spent
from client.privacy.budget_filter import BudgetFilter
from client.privacy.run_plan import RunPlan, plan_of
from common.errors import PrivacyError

log = logging.getLogger("fedvitals.gate")

_COORDINATOR_SETTINGS = frozenset({"data", "out", "resume"})
"""Settings that no site reads. A resumed run has another `resume` than when it began."""


class PrivacyBudget:
    """Privacy spent by all runs, as the audit log records it.

    Args:
        entries: the lines of the audit log, the oldest first.
    """

    def __init__(self, entries: Iterable[Mapping[str, Any]]) -> None:
        self._steps: Counter[tuple[float, float]] = Counter()
        self._steps_of_run: Counter[str] = Counter()
        self._unbounded: set[str] = set()
        # Of each run, its last answered round: the app keeps the reply to that one alone.
        self._sent: dict[str, tuple[tuple[object, ...], str]] = {}
        self._plans: dict[object, Steps] = {}
        for entry in entries:
            self.note(entry)

    @property
    def history(self) -> list[Steps]:
        """All noisy steps spent, summed by sample rate and noise multiplier."""
        return [Steps(q, sigma, steps) for (q, sigma), steps in self._steps.items()]

    @property
    def unbounded(self) -> frozenset[str]:
        """The runs without privacy."""
        return frozenset(self._unbounded)

    def note(self, entry: Mapping[str, Any]) -> None:
        """Take a line of the audit log into account."""
        if entry.get("decision") == "reserved":
            self._spend(str(entry.get("run")), entry.get("privacy"))
        elif entry.get("decision") == "sent" and entry.get("kind") == "train":
            if "received" in entry:
                self._sent[str(entry.get("run"))] = (_key(entry), entry["adapter"]["sha256"])
            else:
                self._note_without_reservation(entry)

    def check(self, request: ServerRequest, policy: Policy, *, anew: bool = False) -> None:
        """Refuse a request whose run would exceed the budget.

        A round to train must leave room for the run's rounds after it, so that no run begins that
        cannot finish. A round that was answered before costs nothing itself: the same bytes are
        sent again. A join request must leave room for one round: it does not say whether the run
        begins or resumes.

        Args:
            request: the request; the run's earlier rounds are spent already.
            policy: the policy in force, with the budget.
            anew: a round that was answered before has been trained again.

        Raises:
            RefusedError: if the run is not private, or would exceed the budget.
        """
        if not policy.budget_epsilon:
            return
        if not request.private or request.config is None:
            raise RefusedError("budget", "a run without privacy cannot be counted in the budget")
        if request.kind == "evaluate":
            return  # a validation trains nothing
        plan = plan_of(request.config)
        if request.kind == "train" and request.round is not None:
            answered = not anew and bool(self.sent_before(_facts_of(request)))
            self._check_fits(plan.remaining(request.round.number, answered=answered), policy)
        else:
            self._check_fits(plan.round_steps, policy)

    def check_release(self, cost: Steps | None, policy: Policy, site: SiteFacts) -> None:
        """Refuse a release of the node's own that would exceed the budget or the site's limit.

        Args:
            cost: its noisy steps; None = none, without a guarantee.
            policy: the policy in force, with the budget.
            site: the site's facts, with the limit.

        Raises:
            RefusedError: if it has no guarantee and one is required, or would exceed either.
        """
        limit, delta = site.epsilon_limit, site.epsilon_limit_delta
        if cost is None:
            if policy.privacy_required or policy.budget_epsilon or limit:
                raise RefusedError("privacy", "exact counts cannot be counted in a budget")
            return
        try:
            if policy.budget_epsilon:
                self._check_fits(cost, policy)
            if limit and self._unbounded:
                raise RefusedError("budget", f"run {min(self._unbounded)} was not private")
            total = _composed((*sorted(self.history, key=_order), cost), delta) if limit else 0.0
        except PrivacyError as problem:
            raise RefusedError("privacy", str(problem)) from None
        if total > limit:
            raise RefusedError(
                "budget",
                f"it would bring the site to epsilon {total:.2f} at delta {delta:g}, above its "
                f"epsilon-limit of {limit:g}",
            )

    def check_limit(self, request: ServerRequest, site: SiteFacts) -> None:
        """Refuse a run that would exceed site.toml's `epsilon-limit`, before a round is charged.

        The app compares its own ledger with the same limit, when the round is charged already. Only
        what this node's log has of other runs counts here. A join request does not name its run,
        which may be one that resumes: for it the run alone is compared.

        Args:
            request: the request.
            site: the site's facts, with the limit.

        Raises:
            RefusedError: if the run is not private, or would exceed the limit.
        """
        limit, delta = site.epsilon_limit, site.epsilon_limit_delta
        if not limit or (request.kind == "evaluate" and request.private):
            return
        if self.sent_before(_facts_of(request)):
            return  # the same bytes are sent again
        if not request.private or request.config is None:
            raise RefusedError("privacy", "the run is not private, and site.toml has epsilon-limit")
        if self._unbounded:
            raise RefusedError("budget", f"run {min(self._unbounded)} was not private")
        plan = plan_of(request.config)
        whole = Steps(
            plan.round_steps.sample_rate,
            plan.round_steps.noise_multiplier,
            plan.rounds * plan.round_steps.steps,
        )
        others = () if request.round is None else self._other_runs(request.round.run, plan)
        total = _composed((*others, whole), delta)
        if total > limit:
            raise RefusedError(
                "budget",
                f"the run would bring the site to epsilon {total:.2f} at delta {delta:g}, above "
                f"its epsilon-limit of {limit:g}",
            )

    def _other_runs(self, run: str, plan: RunPlan) -> tuple[Steps, ...]:
        """Return the steps of all runs but one, which has the plan."""
        own = (plan.round_steps.sample_rate, plan.round_steps.noise_multiplier)
        left = self._steps - Counter({own: self._steps_of_run[run]})
        return tuple(Steps(q, sigma, steps) for (q, sigma), steps in sorted(left.items()))

    def check_spent(self, policy: Policy) -> None:
        """Refuse a reply if more is spent than the policy now allows.

        Raises:
            RefusedError: if the budget is exceeded.
        """
        if policy.budget_epsilon:
            self._check_fits(Steps(0.0, 1.0, 0), policy)

    def _check_fits(self, more: Steps, policy: Policy) -> None:
        budget = BudgetFilter(policy.budget_epsilon, policy.budget_delta)
        if self._unbounded:
            raise RefusedError(
                "budget",
                f"run {min(self._unbounded)} was made without privacy and cannot be "
                "counted in the budget; "
                "to start a new budget for other patients, move the audit log away",
            )
        if not budget.admits(self.history, more):
            raise RefusedError(
                "budget",
                f"{share_spent(budget, self.history):.0%} of the budget is spent and the run would "
                f"bring it to {share_spent(budget, [*self.history, more]):.0%} of epsilon "
                f"{policy.budget_epsilon:g} at delta {policy.budget_delta:g}",
            )

    def reservation(self, request: ServerRequest) -> dict[str, Any] | None:
        """Return a round's cost for its line in the audit log; None if it costs nothing.

        A run without privacy is recorded once.

        Raises:
            RefusedError: if the run has spent all its steps: its reported epsilon, which the
                policy limits, covers these only.
        """
        run = "" if request.round is None else request.round.run
        if request.private and request.config is not None:
            plan = plan_of(request.config)
            steps, most = plan.round_steps, plan.rounds * plan.round_steps.steps
            if self._steps_of_run[run] + steps.steps > most:
                raise RefusedError("privacy", f"run {run} has spent its {most} steps")
            return cost_fields(steps)
        return None if run in self._unbounded else {}

    def sent_before(self, entry: Mapping[str, Any]) -> str:
        """Return the SHA-256 of the adapter sent for the same request before; empty if none was.

        Only the run's last answered round counts, whose reply the app keeps. An earlier one would
        be trained anew, so it is charged anew.

        Args:
            entry: the request's fields in the audit log, on which a reply depends.
        """
        key, sent = self._sent.get(str(entry.get("run")), ((), ""))
        return sent if key == _key(entry) else ""

    def _spend(self, run: str, privacy: Mapping[str, Any] | None) -> None:
        if not privacy:
            self._unbounded.add(run)
            return
        q, sigma = float(privacy["sample-rate"]), float(privacy["noise-multiplier"])
        self._steps[q, sigma] += int(privacy["steps"])
        self._steps_of_run[run] += int(privacy["steps"])

    def _note_without_reservation(self, entry: Mapping[str, Any]) -> None:
        """Count a line of a release that reserved nothing: the run's whole plan, once."""
        run, reported = str(entry.get("run")), entry.get("metrics") or {}
        names = ("privacy.sample-rate", "privacy.noise-multiplier", "privacy.steps")
        if not all(name in reported for name in names):
            self._unbounded.add(run)
        elif run not in self._plans:
            q, sigma, steps = (reported[name] for name in names)
            self._plans[run] = Steps(q, sigma, steps)
            self._steps[q, sigma] += steps


def cost_fields(steps: Steps) -> dict[str, Any]:
    """Return a cost as a line of the audit log has it."""
    return {
        "sample-rate": steps.sample_rate,
        "noise-multiplier": steps.noise_multiplier,
        "steps": steps.steps,
    }


def _order(steps: Steps) -> tuple[float, float]:
    return steps.sample_rate, steps.noise_multiplier


def share_spent(budget: BudgetFilter, history: Iterable[Steps]) -> float:
    """Return the share of a budget that the steps spend; costs at the filter's order add up."""
    return budget.spent(history) / budget.budget


def _key(entry: Mapping[str, Any]) -> tuple[object, ...]:
    """Return everything that a round's reply depends on, from its line in the audit log."""
    changed = (entry.get("settings") or {}).get("changed") or {}
    settings = frozenset(item for item in changed.items() if item[0] not in _COORDINATOR_SETTINGS)
    names = ("run", "round", "bundle", "received")
    return (*(entry.get(name) for name in names), settings)


def _facts_of(request: ServerRequest) -> dict[str, object]:
    """Return a request's fields in the audit log, on which a reply depends."""
    round_id, settings = request.round, request.run.settings
    return {
        "run": None if round_id is None else round_id.run,
        "round": None if round_id is None else round_id.number,
        "bundle": request.run.bundle or None,
        "received": request.adapter_sha256,
        "settings": None if settings is None else settings.record(),
    }


@lru_cache(maxsize=64)
def _composed(history: tuple[Steps, ...], delta: float) -> float:
    """Return epsilon of all steps; it takes seconds, and each round of a run has the same."""
    return spent(history, delta).prv
