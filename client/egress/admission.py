"""Admission of a request: every check that is possible before an app is started for it.

Nothing is charged to the budget until all of them have passed. The number of patients is compared
last: it alone may be counted in the table, and the reason that is told for any other refusal must
not depend on it.
"""

from __future__ import annotations

from client.config.site_facts import SiteFacts
from client.egress.daily_limits import DailyLimits
from client.egress.planned_reply import check_planned_reply
from client.egress.privacy_budget import PrivacyBudget
from client.egress.report_rules import check_guarantee, check_min_patients
from client.egress.server_request import ServerRequest
from client.policy.policy import Policy, StatisticsSection
from client.policy.refusal import RefusedError
from client.policy.run_settings import refused_setting
from client.privacy.run_plan import plan_of
from common.config.run_config import RunConfig
from common.errors import PrivacyError

REQUEST_KINDS = ("train", "evaluate", "query")
STATISTICS_SETTINGS = frozenset({"statistics", "out", "federation.min-sites", "federation.wait-s"})
"""Settings that a run of statistics may change; no site reads the last three."""


def check_request(
    site: SiteFacts,
    request: ServerRequest,
    policy: Policy,
    limits: DailyLimits,
    budget: PrivacyBudget,
) -> None:
    """Refuse a request that no app may see.

    Args:
        site: the site's facts.
        request: the request, of an approved bundle.
        policy: the policy in force.
        limits: replies sent within a day.
        budget: privacy spent by all runs.

    Raises:
        RefusedError: if the kind, settings, round, guarantee, daily limits or budget forbid it, or
            no reply to it may leave.
    """
    if request.kind not in REQUEST_KINDS:
        raise RefusedError("kind", "no app answers this kind of request")
    if request.problem:
        raise RefusedError("question", request.problem)
    check_run_settings(request, policy)
    if request.kind != "query":
        _check_round(request, site)
    limits.check(request.kind, policy)
    try:
        check_planned_reply(site, request, policy)
        if request.private and request.config is not None:
            check_guarantee(plan_of(request.config), policy)
        budget.check(request, policy)
        budget.check_limit(request, site)
    except PrivacyError as problem:
        raise RefusedError("privacy", str(problem)) from None
    check_min_patients(site, None, policy)


def check_statistics_request(
    site: SiteFacts, request: ServerRequest, policy: Policy, limits: DailyLimits
) -> StatisticsSection:
    """Refuse a request for statistics that the node may not answer.

    It has no parameter: no record, and no setting of the run beside those of the coordinator's own
    folder and waiting. So [settings] of the policy, about training, does not apply.

    Args:
        site: the site's facts.
        request: the request, of an approved bundle, in a run with `statistics` set.
        policy: the policy in force.
        limits: replies sent within a day; these count as replies to join requests.

    Returns:
        The policy's rules for statistics.

    Raises:
        RefusedError: if the kind, a record, a setting, the policy or the daily limit forbids it.
    """
    if request.kind != "query":
        raise RefusedError("kind", "a run of statistics has no message of this kind")
    if request.problem or not request.empty:
        raise RefusedError("question", request.problem or "a request for statistics has a record")
    settings = {} if request.run.settings is None else request.run.settings.flat
    usual = RunConfig().flat()
    for key, value in settings.items():
        if value != usual[key] and key not in STATISTICS_SETTINGS:
            raise RefusedError("settings", f"{key} is set, in a run of statistics", setting=key)
    if policy.statistics is None:
        raise RefusedError("statistics", "the policy has no section [statistics]")
    limits.check(request.kind, policy)
    check_min_patients(site, None, policy)
    return policy.statistics


def check_run_settings(request: ServerRequest, policy: Policy) -> None:
    """Refuse a run with settings that the policy does not accept.

    Raises:
        RefusedError: naming the setting, or the privacy guarantee that is missing.
    """
    settings = request.run.settings
    if settings is None:
        raise RefusedError("run", request.run.problem or "its settings have not been read")
    if problem := refused_setting(settings.flat, policy.settings):
        raise RefusedError("settings", problem, setting=problem.partition(" ")[0])
    if request.private and settings.config.privacy.noise_seed >= 0:
        raise RefusedError(
            "settings",
            "privacy.noise-seed is set: who knows the seed can subtract the noise",
            setting="privacy.noise-seed",
        )
    if policy.privacy_required and not request.private:
        raise RefusedError("privacy", "the run has no privacy guarantee; the policy requires one")


def _check_round(request: ServerRequest, site: SiteFacts) -> None:
    """Check that a round is requested of this site, with the adapter that the reply must match."""
    if request.round is None or request.round.site != site.name:
        raise RefusedError("question", "the request names no round of this site")
    if request.adapter is None:
        raise RefusedError("question", "the request has no adapter")
    # The guarantee reported with a reply covers the run's own rounds only.
    if request.kind == "train" and request.config is not None:
        number, last = request.round.number, request.config.rounds
        if not 1 <= number <= last:
            raise RefusedError("question", f"round {number} is requested, the run has 1 to {last}")
