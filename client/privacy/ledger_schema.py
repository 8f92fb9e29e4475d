"""SQLite file of the ledger: its tables, connections, transactions and errors.

It uses a rollback journal, since a write-ahead log does not work on a network drive; every commit
is flushed to disk, and so is the folder of the journal (synchronous = EXTRA). Each message of a
site has a process of its own, so several may use the file at once: writers take turns.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import PrivacyError
from common.files.private import make_private_folder

FILE_NAME = "ledger.sqlite"
WAIT_S = 60.0
"""Longest wait for another process's lock."""

_SCHEMA_VERSION = 1
_APPLICATION_ID = 0x66767364
"""Stored in the file's header, so that no other database is taken for a ledger."""

_TABLES = (
    """
    CREATE TABLE runs (
        run TEXT NOT NULL, site TEXT NOT NULL, table_digest TEXT NOT NULL,
        sample_rate REAL NOT NULL, noise_multiplier REAL NOT NULL, steps INTEGER NOT NULL,
        delta REAL NOT NULL, clip_norm REAL NOT NULL, began TEXT NOT NULL,
        cleared TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (run, site)
    )""",
    """
    CREATE TABLE rounds (
        reservation INTEGER PRIMARY KEY AUTOINCREMENT,
        run TEXT NOT NULL, site TEXT NOT NULL, round INTEGER NOT NULL, steps INTEGER NOT NULL,
        received TEXT NOT NULL, reserved TEXT NOT NULL, replied TEXT, answer BLOB,
        FOREIGN KEY (run, site) REFERENCES runs (run, site)
    )""",
    "CREATE INDEX rounds_of_run ON rounds (site, run, round)",
    "CREATE TABLE computed (question TEXT PRIMARY KEY, answer TEXT NOT NULL)",
)


_PRAGMAS = (
    "journal_mode = DELETE",
    "synchronous = EXTRA",
    "fullfsync = ON",
    "foreign_keys = ON",
    "secure_delete = ON",
)


@contextmanager
def connection(path: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """Open a ledger for the block, creating it if absent.

    Args:
        path: the file.
        read_only: create and write nothing.

    Raises:
        PrivacyError: where the file cannot be read or written, is damaged, is no ledger or was
            written by a newer fedvitals; also where this happens in the block.
    """
    try:
        database = _open(path, read_only)
        try:
            _check(database, path, read_only)
            yield database
        finally:
            database.close()
    except (sqlite3.Error, OSError) as error:
        raise PrivacyError(_explain(path, error)) from error


def _open(path: Path, read_only: bool) -> sqlite3.Connection:
    if read_only:
        # After a crash the next reader rolls the journal back, if it may write.
        mode = "rw" if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK) else "ro"
        target = f"{path.absolute().as_uri()}?mode={mode}"
    else:
        make_private_folder(path.parent)
        # It stores replies, so only the site's own user may read it.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        target = f"{path.absolute().as_uri()}?mode=rw"
    database = sqlite3.connect(target, uri=True, timeout=WAIT_S, isolation_level=None)
    database.row_factory = sqlite3.Row
    if not read_only:
        for pragma in _PRAGMAS:
            database.execute(f"PRAGMA {pragma}")
    return database


def _check(database: sqlite3.Connection, path: Path, read_only: bool) -> None:
    if not read_only and _identity(database) == (0, 0):
        with transaction(database):
            if _identity(database) == (0, 0) and not _tables(database):
                for table in _TABLES:
                    database.execute(table)
                database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    application, version = _identity(database)
    if application != _APPLICATION_ID:
        raise PrivacyError(
            f"{path} is a database, but no ledger of fedvitals; set state-path to another folder"
        )
    if version != _SCHEMA_VERSION:
        raise PrivacyError(
            f"the ledger {path} has schema {version}, this fedvitals reads {_SCHEMA_VERSION}; use "
            "the version of fedvitals that wrote it, or a newer one"
        )


def _identity(database: sqlite3.Connection) -> tuple[int, int]:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    return int(application), int(database.execute("PRAGMA user_version").fetchone()[0])


def _tables(database: sqlite3.Connection) -> int:
    return int(database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _explain(path: Path, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    if isinstance(error, sqlite3.OperationalError) and "locked" in reason:
        return (
            f"the ledger {path} was locked by another process for {WAIT_S:.0f} s; see which "
            "process holds it, and request the round again"
        )
    if isinstance(error, sqlite3.OperationalError | OSError):
        return (
            f"the ledger {path} cannot be read or written ({reason}); without it no site may train "
            "privately: give the site's user write permission in that folder and space on its "
            "disk, or set state-path to another folder and move the ledger there"
        )
    return (
        f"the ledger {path} is damaged ({reason}); what was spent is not known, so nothing is "
        "trained: restore a copy of it that holds every run since"
    )


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one transaction, exclusive among writers and flushed to disk."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
