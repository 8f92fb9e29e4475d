"""The site's ledger: what each run may spend, and what was spent before anything could leave.

A run's plan is fixed when the run is first seen. Before the first step of a round its steps are
reserved, and the reservation is on disk: from then on they count as spent, whether or not the
training ends, the answer is sent, or the machine stays alive. The answer of a run's last round is
kept, so that a server which lost it can ask for it again at no cost.
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
"""A run's id comes from the server: it is a key and no more, and no longer than this."""


@dataclass(frozen=True)
class Plan:
    """What a whole run may do to the patients of one table.

    Attributes:
        sample_rate: probability q of each patient to be in a step.
        noise_multiplier: sigma, in clip norms.
        steps: of the whole run.
        delta: of its guarantee.
        clip_norm: largest norm C of a patient's gradient in a step.
    """

    sample_rate: float
    noise_multiplier: float
    steps: int
    delta: float
    clip_norm: float

    def whole(self) -> Steps:
        """Return the run as planned."""
        return Steps(self.sample_rate, self.noise_multiplier, self.steps)


@dataclass(frozen=True)
class LedgerEntry:
    """What the ledger holds of one run at one site.

    Attributes:
        run: the run's id, as the server names it.
        site: the site.
        table_digest: of the site table that it is trained on.
        plan: as it was fixed.
        began: when the run was first seen, UTC, ISO 8601.
        reserved: steps reserved so far: what counts as spent.
        unanswered: steps among them whose round never came to an answer, as after a crash.
    """

    run: str
    site: str
    table_digest: str
    plan: Plan
    began: str
    reserved: int
    unanswered: int

    def spent(self) -> Steps:
        """Return what counts as spent."""
        return Steps(self.plan.sample_rate, self.plan.noise_multiplier, self.reserved)


class Ledger:
    """A ledger in a site's state folder.

    Args:
        state: the folder; the file in it is made with the first run.
    """

    def __init__(self, state: Path) -> None:
        self.path = state / FILE_NAME

    def begin(self, run: str, site: str, table_digest: str, plan: Plan) -> None:
        """Fix a run's plan, or check that it is the one that was fixed.

        Raises:
            PrivacyError: where the run is known with another plan or another table.
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
                f"run {run} began at site {site!r} with {_words(known[0].plan)}; now it asks for "
                f"{_words(plan)}; a plan stands for its whole run: start a new run"
            )

    def others(self, run: str, site: str) -> tuple[list[Steps], int]:
        """Return what all other runs have spent at a site, over all its tables, and a version.

        The version changes with every reservation of another run; `reserve` takes it.
        """
        with connection(self.path) as database:
            database.execute("BEGIN")  # both reads see one state
            history = [r.spent() for r in _runs(database, site) if r.run != run]
            return history, _version(database, run, site)

    def cleared(self, run: str, site: str) -> str:
        """Return the note of `clear`; empty where there is none."""
        with connection(self.path) as database:
            row = database.execute(
                "SELECT cleared FROM runs WHERE run = ? AND site = ?", (run, site)
            ).fetchone()
        return str(row["cleared"]) if row else ""

    def clear(self, run: str, site: str, note: str) -> None:
        """Note against what the whole run was checked, so that it is not computed every round."""
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
            run: the run, which has begun.
            site: the site.
            round_number: the round.
            steps: steps of the round.
            received: digest of the adapter that the round starts from.
            version: where given, of `others`: nothing is reserved if another run has since.

        Returns:
            The reservation's number; None where another run came between.

        Raises:
            PrivacyError: where the plan has no such steps left.
        """
        with connection(self.path) as database, transaction(database):
            if version is not None and _version(database, run, site) != version:
                return None
            record = _runs(database, site, run)[0]
            if record.reserved + steps > record.plan.steps:
                raise PrivacyError(_exhausted(record, round_number, steps))
            return database.execute(
                "INSERT INTO rounds (run, site, round, steps, received, reserved) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (run, site, round_number, steps, received, _now()),
            ).lastrowid

    def keep(self, reservation: int, answer: bytes) -> None:
        """Keep a round's answer, and forget the run's former one."""
        with connection(self.path) as database, transaction(database):
            database.execute(
                "UPDATE rounds SET answer = NULL WHERE (run, site) = "
                "(SELECT run, site FROM rounds WHERE reservation = ?)",
                (reservation,),
            )
            database.execute(
                "UPDATE rounds SET answer = ?, replied = ? WHERE reservation = ?",
                (answer, _now(), reservation),
            )

    def kept_answer(self, run: str, site: str, round_number: int, received: str) -> bytes | None:
        """Return the kept answer to the same round from the same adapter; None where none is."""
        with connection(self.path) as database:
            row = database.execute(
                "SELECT answer FROM rounds WHERE run = ? AND site = ? AND round = ? "
                "AND received = ? AND answer IS NOT NULL",
                (run, site, round_number, received),
            ).fetchone()
        return None if row is None else bytes(row["answer"])

    def recall(self, question: str) -> str | None:
        """Return what `remember` kept: a computation takes seconds, and each round is a process."""
        with connection(self.path) as database:
            row = database.execute(
                "SELECT answer FROM computed WHERE question = ?", (question,)
            ).fetchone()
        return None if row is None else str(row["answer"])

    def remember(self, question: str, answer: str) -> None:
        """Keep the result of a computation that depends on nothing but its question."""
        with connection(self.path) as database, transaction(database):
            database.execute("INSERT OR REPLACE INTO computed VALUES (?, ?)", (question, answer))

    def runs(self, site: str | None = None) -> list[LedgerEntry]:
        """Return all runs, the oldest first, or those of one site; changes nothing.

        Raises:
            PrivacyError: where there is no ledger.
        """
        if not self.path.is_file():
            raise PrivacyError(
                f"there is no ledger at {self.path}; it is made by the first private run. "
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
        # The time is in whole seconds: of one second, as they came.
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


def _exhausted(record: LedgerEntry, round_number: int, steps: int) -> str:
    lost = f", {record.unanswered} of them without an answer" if record.unanswered else ""
    return (
        f"round {round_number} of run {record.run} asks for {steps} steps at site "
        f"{record.site!r}, but {record.reserved} of the {record.plan.steps} that the run may take "
        f"are spent{lost}; the run goes on without this site, or start a new one"
    )


def _words(plan: Plan) -> str:
    return (
        f"{plan.steps} steps, sample rate {plan.sample_rate:g}, noise {plan.noise_multiplier:.6g}, "
        f"clip norm {plan.clip_norm:g}, delta {plan.delta:g}"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
