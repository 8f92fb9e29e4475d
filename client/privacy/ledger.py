"""A site's ledger: what every run has spent on which site table, kept at the site.

A SQLite file that every process of the site opens anew. What a round will spend is on the disk
before its first step, so that a crash counts as spent; it is never taken back.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client.privacy.accountant import Steps
from common.errors import PrivacyError

VERSION = 1
WAIT_S = 30.0
"""How long a process waits for another one that writes."""

_SCHEMA = """
CREATE TABLE runs (
    run TEXT NOT NULL, site TEXT NOT NULL, site_table TEXT NOT NULL, begun REAL NOT NULL,
    sample_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, clip_norm REAL NOT NULL,
    steps INTEGER NOT NULL, epsilon REAL NOT NULL, epsilon_rdp REAL NOT NULL, delta REAL NOT NULL,
    PRIMARY KEY (run, site));
CREATE TABLE rounds (
    run TEXT NOT NULL, site TEXT NOT NULL, round INTEGER NOT NULL, received TEXT NOT NULL,
    steps INTEGER NOT NULL, reserved REAL NOT NULL, answered REAL, answer BLOB);
CREATE INDEX rounds_of_run ON rounds (run, site);
"""


@dataclass(frozen=True)
class Plan:
    """What a run is going to spend at a site, fixed before its first step.

    Attributes:
        sample_rate: the chance q of each patient to be in a step.
        noise_multiplier: sigma.
        clip_norm: C.
        steps: of the whole run.
        epsilon: what they spend at `delta`, by the PRV accountant.
        epsilon_rdp: the same by the RDP accountant.
        delta: of the guarantee.
    """

    sample_rate: float
    noise_multiplier: float
    clip_norm: float
    steps: int
    epsilon: float
    epsilon_rdp: float
    delta: float


@dataclass(frozen=True)
class Spending:
    """A run in the ledger.

    Attributes:
        run: its id, as the server named it.
        site: the site.
        table: SHA-256 of the site table.
        begun: when, in seconds since 1970.
        plan: what it may spend.
        reserved: the steps that it has spent, those of crashed rounds among them.
        unanswered: the steps of rounds that never ended in an answer.
    """

    run: str
    site: str
    table: str
    begun: float
    plan: Plan
    reserved: int
    unanswered: int

    @property
    def steps(self) -> Steps:
        """What it has spent, as the accountant takes it."""
        return Steps(self.plan.sample_rate, self.plan.noise_multiplier, self.reserved)


class Ledger:
    """The ledger in a file, made where there is none.

    Raises:
        PrivacyError: where the file cannot be written, is damaged, or is of another release.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(path, error) from error
        with self._writing() as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {VERSION}")
            elif version != VERSION:
                raise PrivacyError(
                    f"{path} is a ledger of version {version}, this release reads {VERSION}; "
                    "use the release that wrote it"
                )

    def plan_of(self, run: str, site: str) -> Plan | None:
        """Return a run's plan; None where the run is not known here."""
        found = [one.plan for one in self.spending(site) if one.run == run]
        return found[0] if found else None

    def begin(self, run: str, site: str, table: str, plan: Plan) -> None:
        """Write a run's plan.

        Raises:
            PrivacyError: where the run has begun here before with another plan or table.
        """
        with self._writing() as database:
            known = database.execute(
                "SELECT site_table, sample_rate, noise_multiplier, clip_norm, steps, epsilon, "
                "epsilon_rdp, delta FROM runs WHERE run = ? AND site = ?",
                (run, site),
            ).fetchone()
            if known is None:
                database.execute(
                    "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (run, site, table, time.time(), *_values(plan)),
                )
            elif known[0] != table:
                raise PrivacyError(
                    f"the site table of {site} is another one than run {run} began with; "
                    "put the old one back, or start a new run"
                )
            elif tuple(known[1:]) != _values(plan):
                raise PrivacyError(
                    f"run {run} began with another privacy plan than it is sent now; a plan "
                    "does not change: start a new run"
                )

    def reserve(
        self,
        run: str,
        site: str,
        number: int,
        received: str,
        steps: int,
        check: Callable[[list[Steps]], None] | None = None,
    ) -> None:
        """Count a round's steps as spent; when this returns, they are on the disk.

        Args:
            run: the run; it has begun here.
            site: the site.
            number: the round.
            received: the digest of the adapter that the round begins with.
            steps: how many.
            check: is given all that the site would then have spent, while no other process can
                reserve; what it raises, refuses the round.

        Raises:
            PrivacyError: where they would exceed the run's plan.
        """
        with self._writing() as database:
            planned, reserved = database.execute(
                "SELECT steps, (SELECT COALESCE(SUM(steps), 0) FROM rounds WHERE run = :run AND "
                "site = :site) FROM runs WHERE run = :run AND site = :site",
                {"run": run, "site": site},
            ).fetchone()
            if reserved + steps > planned:
                raise PrivacyError(
                    f"run {run} has spent {reserved} of its {planned} private steps at {site}, "
                    f"round {number} would take {steps} more; its budget is used up"
                )
            database.execute(
                "INSERT INTO rounds VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                (run, site, number, received, steps, time.time()),
            )
            if check is not None:
                check([one.steps for one in _spending(database, site)])

    def answer(self, run: str, site: str, number: int, received: str) -> bytes | None:
        """Return the answer of a round that began with this very adapter, if it is kept."""
        with self._reading() as database:
            row = database.execute(
                "SELECT answer FROM rounds WHERE run = ? AND site = ? AND round = ? AND "
                "received = ? AND answer IS NOT NULL",
                (run, site, number, received),
            ).fetchone()
        return None if row is None else bytes(row[0])

    def keep_answer(self, run: str, site: str, number: int, received: str, answer: bytes) -> None:
        """Keep a round's answer, and no older one of the run: only the last is asked again."""
        with self._writing() as database:
            database.execute(
                "UPDATE rounds SET answer = NULL WHERE run = ? AND site = ?", (run, site)
            )
            database.execute(
                "UPDATE rounds SET answer = ?, answered = ? WHERE rowid = (SELECT MAX(rowid) FROM "
                "rounds WHERE run = ? AND site = ? AND round = ? AND received = ?)",
                (answer, time.time(), run, site, number, received),
            )

    def spending(self, site: str | None = None) -> list[Spending]:
        """Return all runs, oldest first, of a site or of all in this file."""
        with self._reading() as database:
            return _spending(database, site)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that no other process writes beside; on the disk when the block ends."""
        with self._reading() as database:
            database.execute("BEGIN IMMEDIATE")
            try:
                yield database
            except BaseException:
                database.execute("ROLLBACK")
                raise
            database.execute("COMMIT")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            database = sqlite3.connect(self.path, timeout=WAIT_S, isolation_level=None)
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error
        try:
            # A power cut must not forget what was spent.
            database.execute("PRAGMA synchronous = EXTRA")
            yield database
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from error
        finally:
            database.close()


def _spending(database: sqlite3.Connection, site: str | None) -> list[Spending]:
    rows = database.execute(
        "SELECT run, site, site_table, begun, sample_rate, noise_multiplier, clip_norm, steps, "
        "epsilon, epsilon_rdp, delta, "
        "(SELECT COALESCE(SUM(steps), 0) FROM rounds WHERE rounds.run = runs.run AND "
        "rounds.site = runs.site), "
        "(SELECT COALESCE(SUM(steps), 0) FROM rounds WHERE rounds.run = runs.run AND "
        "rounds.site = runs.site AND answered IS NULL) "
        "FROM runs WHERE ? IN (site, '') ORDER BY begun, rowid",
        (site or "",),
    ).fetchall()
    return [Spending(*row[:4], Plan(*row[4:11]), *row[11:]) for row in rows]


def _values(plan: Plan) -> tuple[float, ...]:
    return (
        plan.sample_rate,
        plan.noise_multiplier,
        plan.clip_norm,
        plan.steps,
        plan.epsilon,
        plan.epsilon_rdp,
        plan.delta,
    )


def _unusable(path: Path, error: Exception) -> PrivacyError:
    return PrivacyError(
        f"the privacy ledger {path} cannot be used ({error}); without it nothing is trained: make "
        "it writable, or put its backup back"
    )
