"""Summary of a bundle for the person who approves it: a dozen lines in place of all its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from client.policy.app_bundle import BundleContents
from client.policy.approvals import ApprovedBundle
from client.policy.approved_files import changes_since
from client.policy.policy import Policy

MOST_CHANGES = 8
"""Changed files, and files to look at, that the summary names, unless all are asked for."""


def summary_lines(
    policy_file: Path, policy: Policy, contents: BundleContents, *, every: bool
) -> Iterator[str]:
    """Yield what a bundle is, what it may do under the policy, and what it changes.

    Args:
        policy_file: policy.toml.
        policy: its content.
        contents: the bundle.
        every: name every changed file.
    """
    size = sum(file.size for file in contents.files)
    hint = "" if every else "; --files lists them"
    yield f"app: {contents.name}"
    yield f"SHA-256: {contents.sha256}"
    yield f"files: {len(contents.files)}, {size:,} bytes{hint}"
    yield f"runs at the site: {contents.client_app}"
    for permission in _permissions(policy):
        yield f"may: {permission}"
    yield from _changes(policy_file, policy, contents, every)
    shown = contents.remarks if every else contents.remarks[:MOST_CHANGES]
    yield from (f"look at: {remark}" for remark in shown)
    if left := len(contents.remarks) - len(shown):
        yield f"look at: {left} more; --files lists them"


def last_approved(bundles: Mapping[str, ApprovedBundle], but: str) -> ApprovedBundle | None:
    """Return the bundle that was approved last, other than one; None without another."""
    others = [bundle for sha256, bundle in bundles.items() if sha256 != but]
    return max(others, key=lambda bundle: bundle.approvals[0].at, default=None)


def _permissions(policy: Policy) -> tuple[str, ...]:
    """Return what any app may do under a policy, a phrase each."""
    guarantee = "also in runs without differential privacy"
    if policy.privacy_required:
        guarantee = (
            f"only with differential privacy: epsilon up to {policy.max_epsilon:g} a run and "
            f"{policy.budget_epsilon:g} over all runs"
        )
    return (
        "read the site table and train on it",
        f"send {policy.rounds_per_day} adapters a day, of rank {policy.max_rank} and "
        f"{policy.max_bytes:,} bytes at most, with {len(policy.metrics)} numbers each; the gate "
        "checks every one",
        guarantee,
    )


def _changes(
    policy_file: Path, policy: Policy, contents: BundleContents, every: bool
) -> Iterator[str]:
    last = last_approved(policy.bundles, contents.sha256)
    if last is None:
        yield "changes: no other bundle has been approved here"
        return
    who = f"{last.name} ({last.sha256[:12]}), approved by {last.approvals[0].by}"
    found = changes_since(policy_file, last.sha256, contents)
    if found is None:
        yield f"changes: unknown; the files of {who}, are not recorded here"
        return
    counts = f"{len(found.changed)} changed, {len(found.added)} added, {len(found.removed)} removed"
    yield f"changes: {counts}, against {who}"
    shown = found.paths if every else found.paths[:MOST_CHANGES]
    yield from (f"  {path}" for path in shown)
    if left := len(found.paths) - len(shown):
        yield f"  and {left} more; --files lists them"
