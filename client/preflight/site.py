"""Checks of the site's own files: policy, budget, table, key, audit log and isolation."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from client.config.site_config import SiteConfig
from client.egress.audit.anchor_shipping import shipped_before
from client.egress.audit.hash_chain import read_entries, verify_log
from client.egress.privacy_budget import PrivacyBudget, share_spent
from client.node.min_patients import training_patients
from client.policy.file_ownership import ownership_problem
from client.policy.policy import Policy, load_policy
from client.policy.run_settings import unnamed_settings
from client.preflight.check_result import CheckResult, fail, ok, warn
from client.preflight.local_api import check_interface
from client.privacy.budget_filter import BudgetFilter
from common.data.site_table import SiteTableInfo, read_site_table
from common.errors import FedvitalsError

SOON = timedelta(days=14)
"""Time before an approval ends from which preflight warns."""


def check_approvals(path: Path, policy: Policy, now: datetime) -> CheckResult:
    """Return the result about the approved bundles of a policy.

    Args:
        path: the policy's file.
        policy: the policy in it.
        now: the time, with its offset.
    """
    reasons = {one: policy.refusal(one, now) for one in policy.bundles}
    usable = [policy.bundles[one] for one, reason in reasons.items() if reason is None]
    command = f"python -m client approve BUNDLE --policy {path}"
    if not usable:
        what = "; ".join(reason for reason in reasons.values() if reason) or "it has no approval"
        return warn("policy", f"{path} lets no app bundle run: {what}", command)
    first = min(usable, key=lambda bundle: bundle.end)
    what = f"{path}, {len(usable)} app bundles may run, {first.name} until {first.last}"
    if first.end - now < SOON:
        return warn("policy", what, f"if the study continues: {command} --renew --until DATE")
    return ok("policy", what)


_NEW_KEY = "make one with: ssh-keygen -t ecdsa -b 384 -N '' -f node.key, and have it registered"


def check_site(config: SiteConfig, file: Path | None = None) -> Iterator[CheckResult]:
    """Check the site's own files; yield the results.

    Args:
        config: the site's settings.
        file: the site.toml with them; None = do not check its ownership.
    """
    yield from _ownership(config, file)
    policy = None
    try:
        policy = load_policy(config.site.policy)
        yield check_approvals(config.site.policy, policy, datetime.now(UTC))
        yield _settings(config, policy)
        yield _budget(config, policy)
    except FedvitalsError as problem:
        yield fail("policy", str(problem), "fix the policy; the node does not start without one")
    yield from _table(config, policy)
    yield _key(config)
    yield _state(config)
    yield _isolation(config)
    yield from check_interface(config)


def _ownership(config: SiteConfig, file: Path | None) -> Iterator[CheckResult]:
    """Check that no other user can change or replace the files that decide what leaves."""
    paths = {"site.policy": config.site.policy, "node.key": config.node.key}
    paths |= {} if file is None else {"site.toml": file}
    also = _node_user(config)
    # A missing file has its own result.
    faults = [
        ownership_problem(path, what, also) for what, path in paths.items() if os.path.lexists(path)
    ]
    for fault in faults:
        if fault is not None:
            yield fail("files", fault.what, fault.remedy)
    if not any(faults):
        yield ok("files", f"{', '.join(paths)}: only root and the node's user can change them")


def _node_user(config: SiteConfig) -> list[int]:
    """Return the node's user, if root runs the check: the owner of the node's key."""
    try:
        return [config.node.key.stat().st_uid] if os.geteuid() == 0 else []
    except OSError:
        return []


def _settings(config: SiteConfig, policy: Policy) -> CheckResult:
    unnamed = unnamed_settings(policy.settings)
    if not unnamed:
        return ok("settings", "the policy names every setting of a run")
    return warn(
        "settings",
        f"every run is refused: the policy's [settings] does not name {', '.join(unnamed)}",
        f"name them in {config.site.policy}, as the shipped example does",
    )


def _budget(config: SiteConfig, policy: Policy) -> CheckResult:
    if not policy.budget_epsilon:
        return warn(
            "budget",
            "the total privacy loss of a patient over all runs is not limited",
            "set privacy.required and privacy.budget-epsilon in the policy",
        )
    spent = PrivacyBudget(read_entries(config.audit_log))
    if spent.unbounded:
        return fail(
            "budget",
            f"run {min(spent.unbounded)} was made without privacy and cannot be counted in the "
            "budget",
            "every private run is refused on this audit log",
        )
    limit = BudgetFilter(policy.budget_epsilon, policy.budget_delta)
    share = share_spent(limit, spent.history)
    return ok(
        "budget",
        f"{share:.0%} of epsilon {policy.budget_epsilon:g} at delta {limit.delta:g} is spent",
    )


def _table(config: SiteConfig, policy: Policy | None) -> Iterator[CheckResult]:
    path = config.site.table
    try:
        info = read_site_table(path).info
    except FedvitalsError as problem:
        yield fail("table", str(problem), "create it with `python -m client ingest`")
        return
    yield _patients(config, policy, training_patients(path) or 0)
    yield _declared(config, info, required=policy is not None and policy.privacy_required)
    texts = [text for text in (info.source, info.cohort_rule) if text]
    missing = [text for text in texts if policy is not None and text not in policy.texts]
    if missing and policy is not None and not policy.privacy_required:
        listed = ", ".join(f'"{text}"' for text in missing)
        yield warn(
            "texts",
            f"the table's source or rule is not among the policy's join.texts: {listed}",
            "add it there, if it may leave: a site that does not send both cannot join",
        )


def _patients(config: SiteConfig, policy: Policy | None, counted: int) -> CheckResult:
    declared, what = config.site.patients, f"{config.site.table}: {counted} training patients"
    if policy is not None and counted < policy.min_patients:
        return fail(
            "table", f"{what}, the policy requires {policy.min_patients}", "the site is too small"
        )
    if declared > counted:
        return fail(
            "table",
            f"{what}, site.patients declares {declared}",
            f"declare at most {counted}, rounded down",
        )
    if not declared and policy is not None and policy.privacy_required:
        rounded_down = counted - counted % 10 or counted
        return fail(
            "table",
            f"{what}, site.toml declares none",
            f"set site.patients, rounded down as you like, e.g. {rounded_down}",
        )
    return ok("table", what)


def _declared(config: SiteConfig, info: SiteTableInfo, required: bool) -> CheckResult:
    """Compare the declared facts, which the node sends under privacy, with the table's."""
    own, stated = config.site, (info.source, info.cohort_rule, info.step_minutes)
    if (own.source, own.rule, own.step_minutes) == stated:
        return ok("declared", "site.toml declares the table's source, rule and step length")
    lines = f'source = "{info.source}", rule = "{info.cohort_rule}", step-minutes = '
    return (fail if required else warn)(
        "declared",
        "site.toml declares another source, rule or step length than the table states",
        f"in [site] of site.toml: {lines}{info.step_minutes}",
    )


def _key(config: SiteConfig) -> CheckResult:
    path = config.node.key
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = load_ssh_private_key(path.read_bytes(), None)
    except OSError as problem:
        return fail("key", f"{path} cannot be read: {problem.strerror}", _NEW_KEY)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return fail("key", f"{path} is no OpenSSH private key without a password", _NEW_KEY)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp384r1":
        return fail("key", f"{path} is not ECDSA P-384", _NEW_KEY)
    if mode & 0o007:
        return fail("key", f"{path} can be read by every user ({mode:o})", f"chmod 600 {path}")
    if mode & 0o070:
        return warn("key", f"{path} can be read by its group ({mode:o})", f"chmod 600 {path}")
    return ok("key", f"{path}, ECDSA P-384, for its owner alone")


def _state(config: SiteConfig) -> CheckResult:
    try:
        lines = verify_log(config.audit_log, *shipped_before(config.audit_log)).lines
    except (FedvitalsError, OSError) as problem:
        return fail("audit", str(problem), "keep the log as it is and find out who changed it")
    return ok("audit", f"{config.audit_log}: {lines} lines, unchanged")


def _isolation(config: SiteConfig) -> CheckResult:
    node = config.node
    if node.isolation == "subprocess":
        return warn(
            "isolation",
            "the node starts the app, which may read its key, write its log and use its network",
            'set node.isolation = "process", and run `python -m client app` as another user',
        )
    if node.isolation == "process" and node.secret is None:
        return warn(
            "secret",
            f"any process that reaches {node.client_api} could take the app's task",
            "set node.secret, and give the same file to the app's process",
        )
    if node.secret is not None and not node.secret.is_file():
        return fail("secret", f"{node.secret} is missing", "head -c 32 /dev/urandom > FILE")
    return ok("secret", f"only the app's own process can take its task at {node.client_api}")
