from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from client.privacy.accountant import Steps
from client.privacy.budget_ledger import Ledger, Plan
from client.privacy.ledger_schema import connection, transaction
from common.errors import PrivacyError

REPOSITORY = Path(__file__).resolve().parents[3]
PLAN = Plan(sample_rate=0.1, noise_multiplier=2.0, steps=30, delta=1e-5, clip_norm=1.0)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "site")
    ledger.begin("run-a", "ccu", "table-1", PLAN)
    return ledger


def reserve(ledger: Ledger, round_number: int, received: str = "x", run: str = "run-a") -> int:
    reservation = ledger.reserve(run, "ccu", round_number, 10, received)
    assert reservation is not None
    return reservation


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


def test_a_plan_may_be_stated_again_but_not_changed(ledger: Ledger) -> None:
    ledger.begin("run-a", "ccu", "table-1", PLAN)
    louder = Plan(0.1, 1.0, 30, 1e-5, 1.0)
    with pytest.raises(PrivacyError, match=r"noise 2.*now it has.*noise 1.*start a new run"):
        ledger.begin("run-a", "ccu", "table-1", louder)
    with pytest.raises(PrivacyError, match=r"on the table table-1, now it is table-2"):
        ledger.begin("run-a", "ccu", "table-2", PLAN)
    assert [record.plan for record in ledger.runs()] == [PLAN]


def test_it_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    Ledger(tmp_path / "site").begin("run-a", "ccu", "table-1", PLAN)
    held = [tmp_path / "site", *(tmp_path / "site").iterdir()]
    modes = {(path.is_dir(), path.stat().st_mode & 0o777) for path in held}
    assert modes == {(True, 0o700), (False, 0o600)}


def test_two_sites_of_one_run_are_two_accounts(ledger: Ledger) -> None:
    ledger.begin("run-a", "micu", "table-9", PLAN)
    reserve(ledger, 1)
    assert [(r.site, r.reserved) for r in ledger.runs()] == [("ccu", 10), ("micu", 0)]
    assert [r.site for r in ledger.runs("micu")] == ["micu"]


def test_runs_of_one_second_are_in_their_order(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = "2999-01-01T00:00:00+00:00"
    monkeypatch.setattr("client.privacy.budget_ledger._now", lambda: later)
    names = [f"run-{number}" for number in (7, 3, 9, 1, 5)]
    for name in names:
        ledger.begin(name, "ccu", "table-1", PLAN)
    assert [record.run for record in ledger.runs()] == ["run-a", *names]


@pytest.mark.parametrize("run", ["", "x" * 129, "a\nb"])
def test_an_invalid_run_id_is_refused(ledger: Ledger, run: str) -> None:
    with pytest.raises(PrivacyError, match="printable"):
        ledger.begin(run, "ccu", "table-1", PLAN)


def test_a_reservation_counts_at_once_and_never_beyond_the_plan(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        reserve(ledger, number)
    record = ledger.runs()[0]
    assert (record.reserved, record.unanswered) == (30, 30)
    assert record.spent() == Steps(0.1, 2.0, 30)
    with pytest.raises(
        PrivacyError, match=r"requests 10 steps.*30 of the 30.*30 of them without a reply"
    ):
        reserve(ledger, 4)
    assert ledger.runs()[0].reserved == 30


def test_the_kept_reply_is_of_the_last_round_and_the_same_adapter(ledger: Ledger) -> None:
    assert ledger.kept_reply("run-a", "ccu", 1, "x") is None
    ledger.keep(reserve(ledger, 1), b"first")
    assert ledger.kept_reply("run-a", "ccu", 1, "x") == b"first"
    assert ledger.kept_reply("run-a", "ccu", 1, "another adapter") is None
    assert ledger.kept_reply("run-b", "ccu", 1, "x") is None
    assert ledger.kept_reply("run-a", "micu", 1, "x") is None
    ledger.keep(reserve(ledger, 2), b"second")
    assert ledger.kept_reply("run-a", "ccu", 1, "x") is None
    assert ledger.kept_reply("run-a", "ccu", 2, "x") == b"second"
    assert ledger.runs()[0].unanswered == 0


def test_a_round_requested_again_with_another_adapter_is_spent_again(ledger: Ledger) -> None:
    ledger.keep(reserve(ledger, 1, "x"), b"first")
    ledger.keep(reserve(ledger, 1, "y"), b"again")
    assert ledger.runs()[0].reserved == 20


def test_replies_of_other_runs_are_kept(ledger: Ledger) -> None:
    ledger.begin("run-b", "ccu", "table-1", PLAN)
    ledger.keep(reserve(ledger, 1, run="run-b"), b"other")
    ledger.keep(reserve(ledger, 1), b"own")
    assert ledger.kept_reply("run-b", "ccu", 1, "x") == b"other"


def test_a_process_killed_while_training_has_spent_its_round(ledger: Ledger) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from client.privacy.budget_ledger import Ledger\n"
        "Ledger(Path(sys.argv[1])).reserve('run-a', 'ccu', 1, 10, 'x')\n"
        "print('training', flush=True); sys.stdin.read()"
    )
    process = python(code, str(ledger.path.parent))
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.communicate()
    record = ledger.runs()[0]
    assert (record.reserved, record.unanswered) == (10, 10)
    assert ledger.kept_reply("run-a", "ccu", 1, "x") is None


def test_a_process_killed_while_writing_leaves_a_whole_ledger(ledger: Ledger) -> None:
    reserve(ledger, 1)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from client.privacy.ledger_schema import connection, transaction\n"
        "with connection(Path(sys.argv[1])) as database, transaction(database):\n"
        "    database.execute('PRAGMA cache_size = 1')\n"
        "    database.execute('UPDATE rounds SET steps = 0, answer = zeroblob(4000000)')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = python(code, str(ledger.path))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert Path(f"{ledger.path}-journal").stat().st_size > 0, "nothing was left half done"
    assert ledger.runs()[0].reserved == 10


def test_processes_at_once_never_reserve_more_than_the_plan(ledger: Ledger) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from client.privacy.budget_ledger import Ledger\n"
        "from common.errors import PrivacyError\n"
        "ledger, done = Ledger(Path(sys.argv[1])), 0\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "for number in range(1, 21):\n"
        "    try: ledger.reserve('run-a', 'ccu', number, 1, 'x'); done += 1\n"
        "    except PrivacyError: pass\n"
        "print(done)"
    )
    processes = [python(code, str(ledger.path.parent)) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    done = [int(process.communicate()[0]) for process in processes]
    assert sum(done) == PLAN.steps == ledger.runs()[0].reserved


def test_two_processes_may_create_the_ledger_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from client.privacy.budget_ledger import Ledger, Plan\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "Ledger(Path(sys.argv[1])).begin(sys.argv[2], 'ccu', 't', Plan(.1, 2., 30, 1e-5, 1.))"
    )
    processes = [python(code, str(tmp_path / "new"), f"run-{n}") for n in range(2)]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        process.communicate("go\n")
    assert [process.returncode for process in processes] == [0, 0]
    assert len(Ledger(tmp_path / "new").runs()) == 2


def test_a_reservation_waits_for_a_check_that_is_up_to_date(ledger: Ledger) -> None:
    history, version = ledger.other_runs("run-a", "ccu")
    assert history == []
    ledger.begin("run-b", "ccu", "table-1", PLAN)
    reserve(ledger, 1, run="run-b")
    assert ledger.reserve("run-a", "ccu", 1, 10, "x", version=version) is None
    history, version = ledger.other_runs("run-a", "ccu")
    assert history == [Steps(0.1, 2.0, 10)]
    assert ledger.reserve("run-a", "ccu", 1, 10, "x", version=version) is not None


def test_the_file_is_the_site_users_own(ledger: Ledger) -> None:
    assert ledger.path.stat().st_mode & 0o077 == 0


def test_every_commit_is_flushed(ledger: Ledger) -> None:
    with connection(ledger.path) as database:
        assert database.execute("PRAGMA synchronous").fetchone()[0] == 3  # EXTRA
        assert database.execute("PRAGMA journal_mode").fetchone()[0] == "delete"


def test_reading_does_not_create_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="there is no ledger"):
        Ledger(tmp_path / "none").runs()
    assert not (tmp_path / "none").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.path.write_bytes(b"not a database at all" * 100)
    for use in (ledger.runs, lambda: ledger.begin("r", "ccu", "t", PLAN)):
        with pytest.raises(PrivacyError, match=r"is damaged.*restore a copy"):
            use()


def test_a_damaged_ledger_is_refused(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        ledger.keep(reserve(ledger, number), bytes(50_000))
    content = bytearray(ledger.path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    ledger.path.write_bytes(content)
    with pytest.raises(PrivacyError, match=r"is damaged.*restore a copy"):
        ledger.reserve("run-a", "ccu", 4, 1, "x")


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    database = sqlite3.connect(ledger.path)
    database.execute("CREATE TABLE theirs (x)")
    database.commit()
    database.close()
    with pytest.raises(PrivacyError, match="no ledger of fedvitals"):
        ledger.begin("r", "ccu", "t", PLAN)


def test_a_newer_schema_is_refused(ledger: Ledger) -> None:
    with connection(ledger.path) as database, transaction(database):
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(PrivacyError, match="has schema 2"):
        ledger.runs()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PrivacyError, match=r"cannot be read or written.*state-path"):
        Ledger(tmp_path / "file" / "site").begin("r", "ccu", "t", PLAN)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_ledger_that_may_not_be_written_is_refused(ledger: Ledger) -> None:
    ledger.path.chmod(0o400)
    with pytest.raises(PrivacyError, match="cannot be read or written"):
        reserve(ledger, 1)
    assert len(ledger.runs()) == 1


def test_a_write_that_the_database_refuses_reserves_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.privacy.ledger_schema._PRAGMAS", ("query_only = ON",))
    with pytest.raises(PrivacyError, match=r"readonly.*without it no site may train"):
        reserve(ledger, 1)
    assert ledger.runs()[0].reserved == 0


def test_a_locked_ledger_is_named(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.privacy.ledger_schema.WAIT_S", 0.05)
    with (
        connection(ledger.path) as database,
        transaction(database),
        pytest.raises(PrivacyError, match="locked by another process"),
    ):
        reserve(ledger, 1)
