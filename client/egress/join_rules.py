"""Rules for a site's reply to a join request, at the start of a run.

Without privacy the app replies from the site table, and each field is checked against the policy
and the site's own files. Under privacy the node replies (`node_join`) and the app is not started:
the numbers of patients and windows, and whether there are any, depend on the run's `windows.*`, so
a coordinator could query them as often as it sends a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.config.site_config import MOST_STEP_MINUTES
from client.config.site_facts import SiteFacts
from client.egress.report_rules import check_min_patients, ranged, rounded
from client.egress.server_request import ServerRequest
from client.policy.policy import COUNT_FIELDS, TEXT_FIELDS, Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import shown
from common.config.run_config import RunConfig

NODE: Mapping[str, Any] = {"nodes": 0}
"""The record `node` of a hospital; only a simulation's node has others beside it."""


def node_join(site: SiteFacts, config: RunConfig) -> dict[str, dict[str, Any]]:
    """Return the node's reply to a private join request: constants of the site's own files.

    Args:
        site: the site's facts.
        config: the run's settings: the backbone, and the rank if the site declares none.

    Raises:
        RefusedError: if site.toml does not declare all fields.
    """
    digest = site.backbones.get(config.backbone)
    if digest is None:
        raise RefusedError("backbone", f"site.toml declares no digest of {config.backbone}")
    if not site.step_minutes or not site.declared_patients:
        raise RefusedError("site", "site.toml declares no site.step-minutes or no site.patients")
    record = {
        "usable": True,
        "rank": site.rank or config.lora.rank,
        "source": site.source,
        "rule": site.rule,
        "step-minutes": site.step_minutes,
        "backbone-digest": digest,
        "outside": site.unprotected_outputs,
    }
    return {f"site.{site.name}": record, "node": dict(NODE)}


def check_join(
    site: SiteFacts,
    request: ServerRequest,
    reported: Mapping[str, Mapping[str, Any]],
    policy: Policy,
) -> dict[str, dict[str, Any]]:
    """Return the records of the app's join reply that may be sent.

    Args:
        site: the site's facts.
        request: the request that is answered.
        reported: the app's two records, by name.
        policy: what may leave.

    Raises:
        RefusedError: if a field is not allowed, or differs from the site's files.
    """
    if policy.privacy_required or request.private:
        raise RefusedError("join", "under privacy the node answers a join request, not the app")
    own = f"site.{site.name}"
    if dict(reported["node"]) != NODE:
        raise RefusedError("config", "the record node is not that of a hospital")
    record: dict[str, Any] = {}
    for name, value in reported[own].items():
        if name not in policy.join:
            raise RefusedError("config", f"{shown(name)} is not among the policy's fields of join")
        record[name] = _checked(name, value, policy, site, request)
    check_min_patients(site, reported[own].get("patients"), policy)
    return {own: record, "node": dict(NODE)}


def _checked(
    name: str, value: Any, policy: Policy, site: SiteFacts, request: ServerRequest
) -> int | float | str | bool:
    if name == "usable":
        if type(value) is not bool:
            raise RefusedError("config", "usable is neither true nor false")
        return value
    if name == "outside":
        if value != "":
            raise RefusedError("config", f"outside is {shown(value)}, and the run has no privacy")
        return ""
    if name in TEXT_FIELDS:
        if not isinstance(value, str) or (value and value not in policy.texts):
            raise RefusedError("config", f"{name} is {shown(value)}, which is not among join.texts")
        return value
    if name in COUNT_FIELDS:
        return rounded(ranged(name, value), policy.join[name])
    return _constant(name, value, site, request)


def _constant(name: str, value: Any, site: SiteFacts, request: ServerRequest) -> int:
    """Return the rank or step length, which must be the site's own if it declares one."""
    if name == "rank":
        rank = request.config.lora.rank if request.config is not None else 0
        expected = site.rank or rank
    else:
        expected = site.step_minutes
    if (
        type(value) is not int
        or (expected and value != expected)
        or not 1 <= value <= MOST_STEP_MINUTES
    ):
        raise RefusedError("config", f"{name} is {shown(value)}, the site's is {expected}")
    return value
