"""The site's privacy ledger: the plan of each run, and the steps that it has spent.

A run's plan is fixed when the run is first seen. Before the first step of a round its steps are
reserved on disk: from then on they count as spent, even if the training fails, the reply is not
sent, or the machine crashes. The reply of a run's last round is stored, so that a server which lost
it can request it again at no cost.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client.privacy.accountant import Steps
from client.privacy.ledger_schema import FILE_NAME, connection, transaction
from common.errors import PrivacyError

MAX_KEY = 128
"""Longest run id, which comes from the server."""


@dataclass(frozen=True)
class Plan:
    """Privacy parameters of a whole run on one table.

    Attributes:
        sample_rate: probability q of each patient to be in a step.
        noise_multiplier: sigma, in clip norms.
        steps: steps of the whole run.
        delta: delta of its guarantee.
        clip_norm: largest norm C of a patient's gradient in a step.
    """

    sample_rate: float
    noise_multiplier: float
    steps: int
    delta: float
    clip_norm: float

    def whole(self) -> Steps:
        """Return all steps of the run."""
        return Steps(self.sample_rate, self.noise_multiplier, self.steps)


@dataclass(frozen=True)
class LedgerEntry:
    """Ledger entry of one run at one site.

    Attributes:
        run: the run's id, from the server.
        site: the site.
        table_digest: digest of the site table that it is trained on.
        plan: the run's plan.
        began: time when the run was first seen, UTC, ISO 8601.
        reserved: steps reserved so far; they count as spent.
        unanswered: those of them whose round has no reply, e.g. after a crash.
    """

    run: str
    site: str
    table_digest: str
    plan: Plan
    began: str
    reserved: int
    unanswered: int

    def spent(self) -> Steps:
        """Return the steps that count as spent."""
        return Steps(self.plan.sample_rate, self.plan.noise_multiplier, self.reserved)


class Ledger:
    """Ledger in a site's state folder.

    Args:
        state: the folder; the first run creates the file in it.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / FILE_NAME

    def begin(self, run: str, site: str, table_digest: str, plan: Plan) -> None:
        """Register a run with its plan, or check that it is registered with the same one.

        Raises:
            PrivacyError: where the run is registered with another plan or another table.
        """
        if not 0 < len(run) <= MAX_KEY or not run.isprintable():
            raise PrivacyError(
                f"a run's id must be 1 to {MAX_KEY} printable characters, got {run[:20]!r}; the "
                "server is not one of fedvitals"
            )
        with connection(self.path) as database, transaction(database):
            known = _runs(database, site, run)
            if not known:
                database.execute(
                    "INSERT INTO runs (run, site, table_digest, sample_rate, noise_multiplier, "
                    "steps, delta, clip_norm, began) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(run, site, table_digest, plan.sample_rate, plan.noise_multiplier),
                        *(plan.steps, plan.delta, plan.clip_norm, _now()),
                    ),
                )
                return
        if known[0].table_digest != table_digest:
            raise PrivacyError(
                f"run {run} began at site {site!r} on the table {known[0].table_digest[:12]}, now "
                f"it is {table_digest[:12]}; put the former table back, or start a new run"
            )
        if known[0].plan != plan:
            raise PrivacyError(
                f"run {run} began at site {site!r} with {_plan_text(known[0].plan)}; now it has "
                f"{_plan_text(plan)}; a plan holds for its whole run: start a new run"
            )

    def other_runs(self, run: str, site: str) -> tuple[list[Steps], int]:
        """Return the steps of all other runs at a site, over all its tables, and a version.

        The version changes with every reservation of another run; pass it to `reserve`.
        """
        with connection(self.path) as database:
            database.execute("BEGIN")  # both reads see one state
            history = [r.spent() for r in _runs(database, site) if r.run != run]
            return history, _version(database, run, site)

    def last_check(self, run: str, site: str) -> str:
        """Return the note of `store_check`; empty where there is none."""
        with connection(self.path) as database:
            row = database.execute(
                "SELECT cleared FROM runs WHERE run = ? AND site = ?", (run, site)
            ).fetchone()
        return str(row["cleared"]) if row else ""

    def store_check(self, run: str, site: str, note: str) -> None:
        """Store what the whole run was checked against, so that each round need not check again."""
        with connection(self.path) as database, transaction(database):
            database.execute(
                "UPDATE runs SET cleared = ? WHERE run = ? AND site = ?", (note, run, site)
            )

    def reserve(
        self,
        run: str,
        site: str,
        round_number: int,
        steps: int,
        received: str,
        *,
        version: int | None = None,
    ) -> int | None:
        """Count a round's steps as spent, on disk, before the first of them is taken.

        Args:
            run: the registered run.
            site: the site.
            round_number: the round.
            steps: steps of the round.
            received: digest of the adapter that the round starts from.
            version: version of `other_runs`; where given, nothing is reserved if it has changed.

        Returns:
            The reservation's number; None where the version has changed.

        Raises:
            PrivacyError: where the plan has too few steps left.
        """
        with connection(self.path) as database, transaction(database):
            if version is not None and _version(database, run, site) != version:
                return None
            entry = _runs(database, site, run)[0]
            if entry.reserved + steps > entry.plan.steps:
                raise PrivacyError(_exhausted(entry, round_number, steps))
            return database.execute(
                "INSERT INTO rounds (run, site, round, steps, received, reserved) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (run, site, round_number, steps, received, _now()),
            ).lastrowid

    def keep(self, reservation: int, reply: bytes) -> None:
        """Store a round's reply, and delete the run's earlier one."""
        with connection(self.path) as database, transaction(database):
            database.execute(
                "UPDATE rounds SET answer = NULL WHERE (run, site) = "
                "(SELECT run, site FROM rounds WHERE reservation = ?)",
                (reservation,),
            )
            database.execute(
                "UPDATE rounds SET answer = ?, replied = ? WHERE reservation = ?",
                (reply, _now(), reservation),
            )

    def kept_reply(self, run: str, site: str, round_number: int, received: str) -> bytes | None:
        """Return the stored reply to the same round from the same adapter, or None."""
        with connection(self.path) as database:
            row = database.execute(
                "SELECT answer FROM rounds WHERE run = ? AND site = ? AND round = ? "
                "AND received = ? AND answer IS NOT NULL",
                (run, site, round_number, received),
            ).fetchone()
        return None if row is None else bytes(row["answer"])

    def cached(self, key: str) -> str | None:
        """Return a cached result, or None."""
        with connection(self.path) as database:
            row = database.execute(
                "SELECT answer FROM computed WHERE question = ?", (key,)
            ).fetchone()
        return None if row is None else str(row["answer"])

    def cache(self, key: str, result: str) -> None:
        """Cache the result of a computation that depends on its key only."""
        with connection(self.path) as database, transaction(database):
            database.execute("INSERT OR REPLACE INTO computed VALUES (?, ?)", (key, result))

    def runs(self, site: str | None = None) -> list[LedgerEntry]:
        """Return all runs, oldest first, or those of one site; read only.

        Raises:
            PrivacyError: where there is no ledger.
        """
        if not self.path.is_file():
            raise PrivacyError(
                f"there is no ledger at {self.path}; the first private run creates it. "
                "Name the site's state-path with --state"
            )
        with connection(self.path, read_only=True) as database:
            return _runs(database, site)


def _runs(
    database: sqlite3.Connection, site: str | None = None, run: str | None = None
) -> list[LedgerEntry]:
    rows = database.execute(
        "SELECT runs.*, coalesce(sum(rounds.steps), 0) AS spent, "
        "coalesce(sum(rounds.steps) FILTER (WHERE rounds.replied IS NULL), 0) AS unanswered "
        "FROM runs LEFT JOIN rounds USING (run, site) "
        "WHERE (:site IS NULL OR site = :site) AND (:run IS NULL OR run = :run) "
        # Times are in whole seconds: runs of the same second are in the order of insertion.
        "GROUP BY run, site ORDER BY began, runs.rowid",
        {"site": site, "run": run},
    )
    return [
        LedgerEntry(
            run=row["run"],
            site=row["site"],
            table_digest=row["table_digest"],
            plan=Plan(
                row["sample_rate"],
                row["noise_multiplier"],
                row["steps"],
                row["delta"],
                row["clip_norm"],
            ),
            began=row["began"],
            reserved=row["spent"],
            unanswered=row["unanswered"],
        )
        for row in rows
    ]


def _version(database: sqlite3.Connection, run: str, site: str) -> int:
    row = database.execute(
        "SELECT coalesce(max(reservation), 0) FROM rounds WHERE site = ? AND run != ?", (site, run)
    ).fetchone()
    return int(row[0])


def _exhausted(entry: LedgerEntry, round_number: int, steps: int) -> str:
    lost = f", {entry.unanswered} of them without a reply" if entry.unanswered else ""
    return (
        f"round {round_number} of run {entry.run} requests {steps} steps at site "
        f"{entry.site!r}, but {entry.reserved} of the {entry.plan.steps} that the run may take "
        f"are spent{lost}; continue the run without this site, or start a new one"
    )


def _plan_text(plan: Plan) -> str:
    return (
        f"{plan.steps} steps, sample rate {plan.sample_rate:g}, noise {plan.noise_multiplier:.6g}, "
        f"clip norm {plan.clip_norm:g}, delta {plan.delta:g}"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
