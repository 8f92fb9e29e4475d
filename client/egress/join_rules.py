"""The rules by which a site says what it brings, when a run begins.

Without privacy the app says it, from the table, and each field is held against the policy and the
site's own files. Under privacy the node says it (`own_join`), and no app is asked: numbers of
patients and windows, and whether there are any, would answer a question that the coordinator puts
by the run's `windows.*`, as often as it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client.config.site_config import MOST_STEP_MINUTES
from client.config.site_facts import Site
from client.egress.report_rules import check_patients, ranged, rounded
from client.egress.server_request import Question
from client.policy.policy import COUNT_FIELDS, TEXT_FIELDS, Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import shown
from common.config.run_config import RunConfig

NODE: Mapping[str, Any] = {"nodes": 0}
"""What the record `node` of a hospital says: only a simulation's node has others beside it."""


def own_join(site: Site, config: RunConfig) -> dict[str, dict[str, Any]]:
    """Return what a site says of itself when it joins a private run: constants of its own files.

    Args:
        site: the site itself.
        config: the run's settings: they name the backbone, and the rank where the site has none.

    Raises:
        RefusedError: where site.toml does not declare all of it.
    """
    digest = site.backbones.get(config.backbone)
    if digest is None:
        raise RefusedError("site", f"site.toml declares no digest of {config.backbone}")
    if not site.step_minutes or not site.declared_patients:
        raise RefusedError("site", "site.toml declares no site.step-minutes or no site.patients")
    said = {
        "usable": True,
        "rank": site.rank or config.lora.rank,
        "source": site.source,
        "rule": site.rule,
        "step-minutes": site.step_minutes,
        "backbone-digest": digest,
        "outside": site.outside,
    }
    return {f"site.{site.name}": said, "node": dict(NODE)}


def check_join(
    site: Site, question: Question, said: Mapping[str, Mapping[str, Any]], policy: Policy
) -> dict[str, dict[str, Any]]:
    """Return what may be sent of an app's answer to the question what its site brings.

    Args:
        site: the site itself.
        question: what the server asked.
        said: the app's two records, by name.
        policy: what may leave.

    Raises:
        RefusedError: where a field is not allowed, or is not what the site's files say.
    """
    if policy.privacy_required or question.private:
        raise RefusedError("join", "under privacy the node says what the site brings, not the app")
    own = f"site.{site.name}"
    if dict(said["node"]) != NODE:
        raise RefusedError("config", "the record node is not that of a hospital")
    record: dict[str, Any] = {}
    for name, value in said[own].items():
        if name not in policy.join:
            raise RefusedError("config", f"{shown(name)} is not among the policy's fields of join")
        record[name] = _checked(name, value, policy, site, question)
    check_patients(site, said[own].get("patients"), policy)
    return {own: record, "node": dict(NODE)}


def _checked(
    name: str, value: Any, policy: Policy, site: Site, question: Question
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
    return _constant(name, value, site, question)


def _constant(name: str, value: Any, site: Site, question: Question) -> int:
    """The rank or the length of a step: the site's own where it declares one."""
    if name == "rank":
        rank = question.config.lora.rank if question.config is not None else 0
        due = site.rank or rank
    else:
        due = site.step_minutes
    if type(value) is not int or (due and value != due) or not 1 <= value <= MOST_STEP_MINUTES:
        raise RefusedError("config", f"{name} is {shown(value)}, not that of the site: {due}")
    return value
