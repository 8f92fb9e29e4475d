from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from client.privacy import budget_session as session_module
from client.privacy.accountant import VERSION, Steps, spent
from client.privacy.budget_ledger import Ledger
from client.privacy.budget_session import (
    EpsilonLimit,
    PrivacySession,
    check_without_privacy,
    open_session,
)
from common.config.sections import PrivacyConfig
from common.errors import PrivacyError

NOISE = PrivacyConfig(noise_multiplier=2.0, sample_rate=0.1, clip_norm=1.0)
ONE_RUN = spent([Steps(0.1, 2.0, 30)], 1e-5).prv
TWO_RUNS = spent([Steps(0.1, 2.0, 60)], 1e-5).prv


def begin(state: Path, privacy: PrivacyConfig = NOISE, **changes: Any) -> PrivacySession:
    order: dict[str, Any] = {
        "site": "ccu",
        "table_digest": "table-1",
        "run": "run-a",
        "round_number": 1,
        "rounds": 3,
        "round_steps": 10,
        "limit": None,
    }
    return open_session(state, privacy, **{**order, **changes})


def spent_steps(state: Path) -> list[int]:
    return [record.reserved for record in Ledger(state).runs()]


def run_whole(
    state: Path, run: str, limit: EpsilonLimit | None, table_digest: str = "table-1"
) -> None:
    for number in (1, 2, 3):
        session = begin(state, run=run, round_number=number, limit=limit, table_digest=table_digest)
        session.reserve(f"adapter-{number}")
        session.keep(b"answer")


def test_a_run_of_all_its_rounds_spends_its_plan(tmp_path: Path) -> None:
    run_whole(tmp_path, "run-a", None)
    assert spent_steps(tmp_path) == [30]
    session = begin(tmp_path, round_number=3)
    assert session.kept_reply("adapter-3") == b"answer"
    with pytest.raises(PrivacyError, match="30 of the 30"):
        session.reserve("another adapter")


def test_the_facts_are_of_the_whole_run(tmp_path: Path) -> None:
    whole = spent([Steps(0.1, 2.0, 30)], 1e-5)
    assert begin(tmp_path).facts() == {
        "epsilon": whole.prv,
        "epsilon-rdp": whole.rdp,
        "accountant": "PRV",
        "delta": 1e-5,
        "noise-multiplier": 2.0,
        "sample-rate": 0.1,
        "clip-norm": 1.0,
        "steps": 30,
    }


def test_results_of_another_version_are_not_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = PrivacyConfig(epsilon=8.0, sample_rate=0.1)
    monkeypatch.setattr(session_module, "solve_noise_multiplier", lambda *_: 1.25)
    assert begin(tmp_path, asked).plan.noise_multiplier == 1.25
    monkeypatch.setattr(session_module, "solve_noise_multiplier", lambda *_: 1.5)
    assert begin(tmp_path, asked, run="run-b").plan.noise_multiplier == 1.25
    monkeypatch.setattr("client.privacy.budget_session.VERSION", VERSION + 1)
    assert begin(tmp_path, asked, run="run-c").plan.noise_multiplier == 1.5
    monkeypatch.setattr(session_module, "solve_noise_multiplier", lambda *_: 1.75)
    monkeypatch.setattr(
        "client.privacy.budget_session.metadata.version", lambda name: f"new {name}"
    )
    assert begin(tmp_path, asked, run="run-d").plan.noise_multiplier == 1.75


def test_noise_and_epsilon_are_computed_once_a_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = PrivacyConfig(epsilon=8.0, sample_rate=0.1)
    monkeypatch.setattr(session_module, "solve_noise_multiplier", lambda *_: 1.25)
    first = begin(tmp_path, asked)
    monkeypatch.setattr(session_module, "solve_noise_multiplier", None)
    monkeypatch.setattr(session_module, "spent", None)
    again = begin(tmp_path, asked, round_number=2)
    assert again.plan == first.plan
    assert again.plan.noise_multiplier == 1.25
    assert again.epsilon == first.epsilon


@pytest.mark.slow
def test_solved_noise_keeps_the_run_within_its_epsilon(tmp_path: Path) -> None:
    session = begin(tmp_path, PrivacyConfig(epsilon=3.0, sample_rate=0.1))
    assert 2.9 < session.epsilon.prv <= 3.0


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 4},
        {"round_steps": 11},
        {"table_digest": "table-2"},
        {"privacy": NOISE.replace(noise_multiplier=1.0)},
        {"privacy": NOISE.replace(clip_norm=3.0)},
        {"privacy": NOISE.replace(delta=1e-4)},
        {"privacy": NOISE.replace(sample_rate=0.2)},
    ],
)
def test_a_known_run_cannot_change_its_plan(tmp_path: Path, change: dict[str, Any]) -> None:
    begin(tmp_path)
    with pytest.raises(PrivacyError, match="start a new run"):
        begin(tmp_path, **change)


@pytest.mark.parametrize("number", [0, 4])
def test_a_round_outside_the_run_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(PrivacyError, match=f"round {number} of 3"):
        begin(tmp_path, round_number=number)


def test_opening_spends_nothing_and_a_reply_needs_a_reservation(tmp_path: Path) -> None:
    session = begin(tmp_path)
    with pytest.raises(PrivacyError, match="without a reservation"):
        session.keep(b"answer")
    assert spent_steps(tmp_path) == [0]


def test_a_run_above_the_limit_is_refused_before_any_step(tmp_path: Path) -> None:
    session = begin(tmp_path, limit=EpsilonLimit(ONE_RUN - 0.1))
    with pytest.raises(PrivacyError, match=r"above its limit of .*other runs have spent 0\.00"):
        session.reserve("x")
    assert spent_steps(tmp_path) == [0]


def test_the_limit_counts_all_runs_over_all_tables(tmp_path: Path) -> None:
    limit = EpsilonLimit((ONE_RUN + TWO_RUNS) / 2)
    run_whole(tmp_path, "run-a", limit, "january's export")
    with pytest.raises(PrivacyError, match=f"other runs have spent {ONE_RUN:.2f}"):
        run_whole(tmp_path, "run-b", limit, "february's export")
    run_whole(tmp_path, "run-b", EpsilonLimit(TWO_RUNS + 0.01), "february's export")
    assert spent_steps(tmp_path) == [30, 30]


def test_the_limit_of_one_site_is_not_spent_by_another(tmp_path: Path) -> None:
    limit = EpsilonLimit(ONE_RUN + 0.01)
    run_whole(tmp_path, "run-a", limit)
    begin(tmp_path, site="micu", run="run-b", limit=limit).reserve("x")


def test_two_runs_side_by_side_cannot_pass_the_limit_together(tmp_path: Path) -> None:
    limit = EpsilonLimit((ONE_RUN + TWO_RUNS) / 2)
    begin(tmp_path, run="run-a", limit=limit).reserve("x")
    finished, refused = [], []
    for number in (1, 2, 3):
        for run in ("run-b", "run-a"):
            try:
                begin(tmp_path, run=run, round_number=number, limit=limit).reserve("y")
                finished.append(run)
            except PrivacyError:
                refused.append(run)
    history = [record.spent() for record in Ledger(tmp_path).runs()]
    assert finished
    assert refused
    assert spent(history, 1e-5).prv <= limit.epsilon


def test_a_limit_that_was_lowered_holds_at_once(tmp_path: Path) -> None:
    begin(tmp_path, limit=EpsilonLimit(100.0)).reserve("x")
    with pytest.raises(PrivacyError, match="above its limit"):
        begin(tmp_path, round_number=2, limit=EpsilonLimit(0.5)).reserve("y")


def test_the_limit_is_checked_once_while_nothing_else_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = EpsilonLimit(100.0)
    begin(tmp_path, limit=limit).reserve("x")
    monkeypatch.setattr(session_module, "spent", None)
    begin(tmp_path, round_number=2, limit=limit).reserve("y")
    assert spent_steps(tmp_path) == [20]


def test_a_run_that_spends_in_between_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = EpsilonLimit((ONE_RUN + TWO_RUNS) / 2)
    own = begin(tmp_path, limit=limit)
    reserve = Ledger.reserve
    calls: list[int] = []

    def after_another(ledger: Ledger, *args: Any, **options: Any) -> int | None:
        if not calls:
            calls.append(1)
            run_whole(tmp_path, "run-b", None)
        return reserve(ledger, *args, **options)

    monkeypatch.setattr(Ledger, "reserve", after_another)
    with pytest.raises(PrivacyError, match="above its limit"):
        own.reserve("x")


@pytest.mark.parametrize(("epsilon", "delta"), [(0.0, 1e-5), (-1.0, 1e-5), (1.0, 0.0), (1.0, 1.0)])
def test_a_limit_out_of_range_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(PrivacyError, match="epsilon-limit"):
        EpsilonLimit(epsilon, delta)


def test_a_site_with_a_limit_trains_nothing_without_privacy() -> None:
    check_without_privacy("ccu", None)
    with pytest.raises(PrivacyError, match="the run has privacy off"):
        check_without_privacy("ccu", EpsilonLimit(8.0))
