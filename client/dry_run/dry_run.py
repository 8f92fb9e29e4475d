"""Dry run of a site's node: train and check one round, and capture the replies instead of sending.

The audit log records what left, so a dry run reads it (its integrity, and the replies of the last
day) but writes nothing to it: otherwise every reader would have to distinguish real lines from dry
ones. The gate's decisions are written to the dry run's own folder. The privacy ledger is not
charged: the app works on a copy with the present balance, which is deleted afterwards.

The coordinator's settings and, after round 1, its adapters are not known here. Other settings
change what leaves; the page says so.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from client.config.site_config import SiteConfig
from client.config.site_facts import site_facts
from client.dry_run.first_round import join_request, round_request
from client.dry_run.offline_node import CapturedMessage, OfflineNode
from client.egress.audit.hash_chain import entries_since, verify_log
from client.egress.gate import Gate
from client.node.flower_patches import check_flower_version
from client.node.isolation.network_sandbox import can_read, in_network_sandbox
from client.node.min_patients import require_min_patients
from client.policy.app_bundle import BundleContents, read_bundle
from client.policy.policy import PolicyFile
from client.privacy.ledger_schema import FILE_NAME, connection
from common.backbones.weights_store import install_packaged
from common.config.run_config import RunConfig
from common.config.step_length import step_refusal
from common.errors import NodeError, PolicyError, SiteTableError, UsageError
from common.flower.environment import flower_environment

APP_LOG = "app.log"
_QUIET_LOGGERS = ("flwr", "fedvitals", "httpx", "uvicorn")


@dataclass(frozen=True)
class DryRunReply:
    """A reply of the dry run, and the gate's decision on it.

    Attributes:
        name: ``join`` or ``round``.
        entry: the gate's decision: decision, reason, and every value that it allows.
        captured: the message that would have been sent.
    """

    name: str
    entry: Mapping[str, Any]
    captured: CapturedMessage

    @property
    def leaves(self) -> bool:
        """True if the reply itself would be sent, rather than an error."""
        return bool(self.entry["decision"] == "sent")


@dataclass(frozen=True)
class DryRun:
    """Inputs and results of a dry run.

    Attributes:
        site: the site's name.
        bundle: the app bundle.
        settings: the run's settings.
        began: the time, UTC.
        ledger: whether the site had a ledger, of which a copy was used.
        sandboxed: whether the app had no network except a loopback interface.
        key_readable: whether the app's user could have read the node's key.
        replies: the reply to the join request, then that to the round.
    """

    site: str
    bundle: BundleContents
    settings: RunConfig
    began: datetime
    ledger: bool
    sandboxed: bool
    key_readable: bool
    replies: Sequence[DryRunReply]

    def check(self, out: Path) -> None:
        """Raise an error if the round would not leave the site.

        Args:
            out: the folder with the app's output.

        Raises:
            PolicyError: if the gate refuses; a site that may not join gets no round.
            NodeError: if the app failed.
        """
        for reply in self.replies:
            entry = reply.entry
            if entry["decision"] == "error":
                raise NodeError(f"{reply.name}: {entry['reason']}; see {out / APP_LOG}")
            if not reply.leaves:
                raise PolicyError(
                    f"{reply.name} would stay at the site: {entry['detail']} ({entry['reason']})"
                )


class MemoryDecisionLog:
    """Log of the gate's decisions in memory; the site's audit log is only read.

    Args:
        log: the site's audit log.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.entries: list[dict[str, Any]] = []

    def append(self, entry: Mapping[str, Any]) -> int:
        """Record a decision."""
        self.entries.append(dict(entry))
        return len(self.entries)

    def since(self, moment: datetime) -> Iterable[dict[str, Any]]:
        """Return the audit log's entries from a moment on."""
        return entries_since(self._log, moment)


def approved_bundle(config: SiteConfig, path: Path | None) -> BundleContents:
    """Read the app bundle and check that the policy approves it now.

    Args:
        config: the site's settings.
        path: the bundle; None = the one approved .fab file in the policy's folder.

    Raises:
        PolicyError: if it is not approved, or the policy cannot be read.
        UsageError: if it cannot be read, or there is not exactly one.
    """
    policy, now = PolicyFile(config.site.policy).current(), datetime.now(UTC)
    if path is None:
        folder = config.site.policy.parent
        bundles = map(read_bundle, sorted(folder.glob("*.fab")))
        found = [bundle for bundle in bundles if policy.refusal(bundle.sha256, now) is None]
        if len(found) != 1:
            raise UsageError(f"{folder} holds {len(found)} approved bundles; name one: --bundle")
        return found[0]
    bundle = read_bundle(path)
    reason = policy.refusal(bundle.sha256, now)
    if reason is not None:
        raise PolicyError(
            f"{path} ({bundle.sha256[:12]}…) may not run by {config.site.policy}: {reason}; "
            f"inspect it with: python -m client approve {path} --policy {config.site.policy}"
        )
    return bundle


def dry_run(config: SiteConfig, bundle: BundleContents, settings: RunConfig, out: Path) -> DryRun:
    """Train one round at the site and let the gate decide; nothing is sent.

    Args:
        config: the site's settings; their coordinator is not contacted.
        bundle: the app, approved.
        settings: the run's settings, as far as the site knows them.
        out: a new folder for the app's output.

    Raises:
        PolicyError: if the node would not start: no policy, or too few patients.
        AuditError: if the audit log has been changed.
        UsageError: if the run would refuse the site, the bundle does not fit the settings, or the
            folder exists.
        SiteTableError: if the site table cannot be read.
    """
    check_flower_version()
    policy = PolicyFile(config.site.policy)
    patients = require_min_patients(config, policy.current())
    if reason := step_refusal(config.site.step_minutes, settings):
        raise UsageError(f"the coordinator would refuse this site: {reason}")
    verify_log(config.audit_log)
    if not os.access(config.site.table, os.R_OK):
        raise SiteTableError(
            f"{config.site.table} cannot be read; start the dry run where the app can read it"
        )
    install_packaged()
    began, decision_log = datetime.now(UTC), MemoryDecisionLog(config.audit_log)
    gate = Gate(site_facts(config, patients), policy.current, decision_log)
    requests = {
        "join": join_request(settings),
        "round": round_request(settings, config.site.id, config.site.lora_rank),
    }
    _make_folder(out)
    with tempfile.TemporaryDirectory(prefix="fedvitals-dry-run-") as folder:
        scratch = Path(folder)
        ledger = _copy_ledger(config.site.state, scratch / "state")
        with (
            _quiet(),
            (out / APP_LOG).open("xb") as output,
            _offline_node(config, gate, bundle, settings, scratch, output).open() as node,
        ):
            captured = {name: node.ask(request) for name, request in requests.items()}
    decisions = [entry for entry in decision_log.entries if entry["decision"] != "reserved"]
    replies = [
        DryRunReply(name, entry, captured[name])
        for name, entry in zip(requests, decisions, strict=True)
    ]
    return DryRun(
        site=config.site.id,
        bundle=bundle,
        settings=settings,
        began=began,
        ledger=ledger,
        sandboxed=in_network_sandbox(),
        key_readable=can_read(config.node.key),
        replies=replies,
    )


def _make_folder(out: Path) -> None:
    """Create the dry run's folder, for its owner only: the app's output may name patients."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.mkdir(mode=0o700)
    except OSError as problem:
        raise UsageError(
            f"{out} cannot be created ({problem.strerror}); give another folder with --out"
        ) from problem


def _copy_ledger(state: Path, scratch: Path) -> bool:
    """Copy the site's privacy ledger; return whether there is one."""
    scratch.mkdir()
    if not (state / FILE_NAME).is_file():
        return False
    with (
        connection(state / FILE_NAME, read_only=True) as ledger,
        connection(scratch / FILE_NAME) as copy,
    ):
        ledger.backup(copy)
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the node's own log lines, which report sending."""
    loggers = [logging.getLogger(name) for name in _QUIET_LOGGERS]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _offline_node(
    config: SiteConfig,
    gate: Gate,
    bundle: BundleContents,
    settings: RunConfig,
    scratch: Path,
    output: IO[bytes],
) -> OfflineNode:
    """Return a node whose app has its state and its files below a temporary folder."""
    node_config = {**config.node_config(), "state-path": str(scratch / "state")}
    environment = _environment(scratch)
    hidden = _hidden(config)
    return OfflineNode(gate, bundle, settings.flat(), node_config, environment, output, hidden)


def _environment(scratch: Path) -> dict[str, str]:
    """Return the app's environment: no downloads or telemetry, and an unpack folder of its own."""
    flower = scratch / "flower"
    flower.mkdir()
    return {**flower_environment(), "HF_HUB_OFFLINE": "1", "FLWR_HOME": str(flower)}


def _hidden(config: SiteConfig) -> list[Path]:
    """Return the files to hide from the app, as in a real round, that this process can read.

    A key that the network sandbox has already hidden is not readable here.
    """
    named = (config.node.secret, config.node.key)
    return [path for path in named if path is not None and can_read(path)]
