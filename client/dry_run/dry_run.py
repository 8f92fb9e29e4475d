"""A dry run of a site's node: one round is trained and judged; what WOULD leave is written down.

The audit log says what left. Nothing leaves here, so it is read (for the rounds of the last day,
and whether it is whole) and not written: with a line in it for what did not leave, every reader of
it, and the count of rounds, would have to tell the two apart for ever. The gate's lines stand in
the dry run's own folder instead. Nor is the privacy ledger spent: the app works on a copy of it, so
that it finds the budget as it stands, and the copy is thrown away.

What cannot be known here are the coordinator's settings and, after round 1, its adapters: with
other settings other things leave. The page says so.
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
from typing import Any

from client.config.site_config import SiteConfig
from client.config.site_facts import site_of
from client.dry_run.first_round import join_question, round_question
from client.dry_run.offline_node import Kept, Rehearsal
from client.egress.audit.audit_log import entries_since, verify
from client.egress.gate import Gate
from client.node.flower_patches import check_release
from client.node.isolation.network_sandbox import can_read, shut_in
from client.node.min_patients import check_patients
from client.policy.app_bundle import BundleContents, read_bundle
from client.policy.policy import PolicyFile
from client.privacy.ledger_schema import FILE_NAME, connection
from common.backbones.weights_store import install_packaged
from common.config.run_config import RunConfig
from common.errors import NodeError, PolicyError, SiteTableError, UsageError
from common.flower.environment import flower_environment

APP_LOG = "app.log"
QUIET = ("flwr", "fedvitals", "httpx", "uvicorn")


@dataclass(frozen=True)
class Outcome:
    """One answer of the app's, and what became of it.

    Attributes:
        name: ``join``, or ``round``.
        entry: the gate's line: decision, reason, and all that it let through.
        kept: what would have been sent.
    """

    name: str
    entry: Mapping[str, Any]
    kept: Kept

    @property
    def leaves(self) -> bool:
        """Whether the answer itself would go, and not an error in its place."""
        return bool(self.entry["decision"] == "sent")


@dataclass(frozen=True)
class DryRun:
    """What a dry run was made with, and what came of it.

    Attributes:
        site: the site's name.
        bundle: the app bundle.
        settings: the run's.
        began: the time, UTC.
        ledger: whether the site had a ledger, of which a copy was used.
        shut_in: whether the app had no network but a loopback interface.
        saw_key: whether the app's user could have read the node's key.
        outcomes: join first, then the round.
    """

    site: str
    bundle: BundleContents
    settings: RunConfig
    began: datetime
    ledger: bool
    shut_in: bool
    saw_key: bool
    outcomes: Sequence[Outcome]

    def check(self, out: Path) -> None:
        """Say why nothing of a round would leave; nothing where it would.

        Args:
            out: where the app's output stands.

        Raises:
            PolicyError: where the gate refuses, as a site that may not join is asked for no round.
            NodeError: where the app failed.
        """
        for outcome in self.outcomes:
            entry = outcome.entry
            if entry["decision"] == "error":
                raise NodeError(f"{outcome.name}: {entry['reason']}; see {out / APP_LOG}")
            if not outcome.leaves:
                raise PolicyError(
                    f"{outcome.name} would stay at the site: {entry['detail']} ({entry['reason']})"
                )


class Transcript:
    """Takes the gate's lines in the audit log's place, which is only read.

    Args:
        log: the site's audit log.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self.entries: list[dict[str, Any]] = []

    def append(self, entry: Mapping[str, Any]) -> int:
        """Keep a line."""
        self.entries.append(dict(entry))
        return len(self.entries)

    def since(self, moment: datetime) -> Iterable[dict[str, Any]]:
        """Give the audit log's entries from a moment on."""
        return entries_since(self._log, moment)


def approved_bundle(config: SiteConfig, path: Path | None) -> BundleContents:
    """Read the app bundle and make sure that by the policy it may run now.

    Args:
        config: the site's settings.
        path: the bundle; None = the one approved .fab file in the policy's folder.

    Raises:
        PolicyError: it may not run by now, or there is no policy that can be read.
        UsageError: it cannot be read, or there is not exactly one.
    """
    policy, now = PolicyFile(config.site.policy).current(), datetime.now(UTC)
    if path is None:
        folder = config.site.policy.parent
        there = map(read_bundle, sorted(folder.glob("*.fab")))
        found = [bundle for bundle in there if policy.refusal(bundle.sha256, now) is None]
        if len(found) != 1:
            raise UsageError(f"{folder} holds {len(found)} approved bundles; name one: --bundle")
        return found[0]
    bundle = read_bundle(path)
    reason = policy.refusal(bundle.sha256, now)
    if reason is not None:
        raise PolicyError(
            f"{path} ({bundle.sha256[:12]}…) may not run by {config.site.policy}: {reason}; look "
            f"into it with: python -m client approve {path} --policy {config.site.policy}"
        )
    return bundle


def dry_run(config: SiteConfig, bundle: BundleContents, settings: RunConfig, out: Path) -> DryRun:
    """Train one round at the site and let the gate decide; nothing is sent.

    Args:
        config: the site's settings; the coordinator in them is not asked.
        bundle: the app, approved.
        settings: the run's settings, as far as the site knows them.
        out: a folder to make, in which the app's output is kept.

    Raises:
        PolicyError: where the node would not start: no policy, or too few patients.
        AuditError: where the audit log has been changed.
        UsageError: where the run would not take the site, the bundle does not fit the settings, or
            the folder is there already.
        SiteTableError: where the site table cannot be read.
    """
    check_release()
    policy = PolicyFile(config.site.policy)
    patients = check_patients(config, policy.current())
    verify(config.audit_log)
    if not os.access(config.site.table, os.R_OK):
        raise SiteTableError(
            f"{config.site.table} cannot be read; start the dry run where the app has the table"
        )
    install_packaged()
    began, transcript = datetime.now(UTC), Transcript(config.audit_log)
    gate = Gate(site_of(config, patients), policy.current, transcript)
    questions = {
        "join": join_question(settings),
        "round": round_question(settings, config.site.id, config.site.lora_rank),
    }
    _make_folder(out)
    with tempfile.TemporaryDirectory(prefix="fedvitals-dry-run-") as scratch:
        state, environment = Path(scratch) / "state", _environment(Path(scratch))
        ledger = _copy_ledger(config.site.state, state)
        node_config = {**config.node_config(), "state-path": str(state)}
        with (
            _quiet(),
            (out / APP_LOG).open("xb") as output,
            Rehearsal(
                gate,
                bundle,
                settings.flat(),
                node_config,
                environment,
                output,
                hidden=_hidden(config),
            ).open() as node,
        ):
            kept = {name: node.ask(question) for name, question in questions.items()}
    decisions = [entry for entry in transcript.entries if entry["decision"] != "reserved"]
    outcomes = [
        Outcome(name, entry, kept[name]) for name, entry in zip(questions, decisions, strict=True)
    ]
    return DryRun(
        site=config.site.id,
        bundle=bundle,
        settings=settings,
        began=began,
        ledger=ledger,
        shut_in=shut_in(),
        saw_key=can_read(config.node.key),
        outcomes=outcomes,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the node's own log lines, which speak of sending, out of a dry run."""
    loggers = [logging.getLogger(name) for name in QUIET]
    levels = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _hidden(config: SiteConfig) -> list[Path]:
    """The files that the app shall not see though this process can read them, as in a real round.

    A key that is laid out of sight already is none of them: an empty device lies in its place.
    """
    named = (config.node.secret, config.node.key)
    return [path for path in named if path is not None and can_read(path)]


def _make_folder(out: Path) -> None:
    """Make the folder of a dry run, for its owner alone: the app's output may name patients."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.mkdir(mode=0o700)
    except OSError as problem:
        raise UsageError(
            f"{out} cannot be made ({problem.strerror}); give another folder with --out"
        ) from problem


def _environment(scratch: Path) -> dict[str, str]:
    """Of the app's process: nothing fetched or reported, the bundle unpacked for this run only."""
    flower = scratch / "flower"
    flower.mkdir()
    return {**flower_environment(), "HF_HUB_OFFLINE": "1", "FLWR_HOME": str(flower)}


def _copy_ledger(state: Path, scratch: Path) -> bool:
    """Copy the site's privacy ledger as it stands; return whether there is one."""
    scratch.mkdir()
    if not (state / FILE_NAME).is_file():
        return False
    with (
        connection(state / FILE_NAME, read_only=True) as ledger,
        connection(scratch / FILE_NAME) as copy,
    ):
        ledger.backup(copy)
    return True
