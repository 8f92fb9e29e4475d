"""Admission of a question: all that can be judged before an app is started for it."""

from __future__ import annotations

from client.config.site_facts import Site
from client.egress.daily_limits import DailyLimits
from client.egress.privacy_budget import PrivacyBudget, plan_of
from client.egress.report_rules import check_guarantee, check_patients
from client.egress.server_request import Question
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from client.policy.run_settings import refused_setting
from common.errors import PrivacyError

KINDS = ("train", "evaluate", "query")


def check_question(
    site: Site, question: Question, policy: Policy, limits: DailyLimits, budget: PrivacyBudget
) -> None:
    """Refuse a question that no app is to see.

    Args:
        site: the site itself.
        question: what the server asks, of an approved bundle.
        policy: as it stands.
        limits: the answers of the day.
        budget: what all runs have spent.

    Raises:
        RefusedError: where the kind, the settings, the round, the guarantee, the day's limits or
            the budget stand against it.
    """
    if question.kind not in KINDS:
        raise RefusedError("kind", "nothing answers such a message")
    if question.problem:
        raise RefusedError("question", question.problem)
    _check_settings(question, policy)
    if question.kind != "query":
        _check_round(question, site)
    check_patients(site, None, policy)
    limits.check(question.kind, policy)
    try:
        if question.private and question.config is not None:
            check_guarantee(plan_of(question.config), policy)
        budget.check(question, policy)
    except PrivacyError as problem:
        raise RefusedError("privacy", str(problem)) from None


def _check_settings(question: Question, policy: Policy) -> None:
    settings = question.facts.settings
    if settings is None:
        raise RefusedError("run", question.facts.problem or "its settings have not been read")
    if problem := refused_setting(settings.flat, policy.settings):
        raise RefusedError("settings", problem)
    if question.private and settings.config.privacy.noise_seed >= 0:
        raise RefusedError("settings", "privacy.noise-seed would let others take the noise off")
    if policy.privacy_required and not question.private:
        raise RefusedError("privacy", "the run promises no guarantee, and one is required")


def _check_round(question: Question, site: Site) -> None:
    """A round is asked of this site, and brings the adapter that an answer is held against."""
    if question.round is None or question.round.site != site.name:
        raise RefusedError("question", "the server's message does not ask this site for a round")
    if question.adapter is None:
        raise RefusedError("question", "the server's message brings no adapter")
    # The guarantee that is stated beside an answer is that of the run's rounds, and of no more.
    if question.kind == "train" and question.config is not None:
        number, last = question.round.number, question.config.rounds
        if not 1 <= number <= last:
            raise RefusedError("question", f"round {number} is to be trained, of 1 to {last}")
