"""A run that is cut off goes on from its last whole round, to the same bytes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Message

from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.errors import FederationError, UsageError
from server.runs.run_folder import CHECKPOINT_FILE, ROUNDS_FILE, RunFolder, read_run_config
from simulation.run import federate
from tests.samples.federation import (
    SharedRuns,
    elsewhere,
    ordered,
    released,
    rounds_of,
    run_changed,
    tiny_run,
    with_settings,
)

pytestmark = pytest.mark.usefixtures("figures_undrawn")

KILLS = 12
VARIANTS: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {"aggregation.optimizer": "fedadam", "aggregation.learning-rate": 0.01},
    "fedex": {"aggregation.rule": "fedex"},
    "svd": {"aggregation.rule": "svd"},
    "int8": {"wire.dtype": "int8"},
    "b alone": {"lora.train": "b"},
    "a share of the sites": {"federation.fraction": 0.6},
    "private": {
        "privacy.noise-multiplier": 1.0,
        "privacy.sample-rate": 0.5,
        "privacy.noise-seed": 3,
    },
}


class StopError(Exception):
    """Stands for a server that stops; raised in its own code, so that nothing is cleaned up."""


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    # Two steps a round: a resumed run has to repeat neither.
    return tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run", **{"train.steps": 2})


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `stopped` copies, from when the first test has made it."""
    return tmp_path_factory.mktemp("cut-off") / "run"


@pytest.fixture
def stopped(config: RunConfig, cut_off: Path) -> RunConfig:
    """A run that was cut off in round 2, after its checkpoint and before its line."""
    if not cut_off.exists():
        stop_at(config.replace(out=str(cut_off)), 2, "log_round")
    shutil.copytree(cut_off, config.out)
    return config


def stop_at(config: RunConfig, number: int, place: str, own: Any = None) -> None:
    """Run until round `number`, then stop the server before or after it has written the round.

    The folder's claim is let go, as the kernel does when a process ends.
    """
    claims: list[RunFolder] = []

    def claimed(path: Path, resume: bool = False, **more: Any) -> RunFolder:
        claims.append(RunFolder(path, resume, **more))
        return claims[0]

    def stop(*arguments: Any, **more: Any) -> Any:
        written = arguments[2].round if place == "save_checkpoint" else arguments[0]["round"]
        if written == number:
            raise StopError
        return kept(*arguments, **more)

    import server.rounds.federation

    kept: Any = getattr(server.rounds.federation, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("server.server_app.RunFolder", claimed)
        patch.setattr(f"server.rounds.federation.{place}", stop)
        with pytest.raises(StopError):
            federate(config, own=own)
    claims[0].close()


@pytest.mark.parametrize(
    ("place", "variant"),
    [
        *(("save_checkpoint", variant) for variant in VARIANTS),
        *(("log_round", variant) for variant in ("fedavg", "fedadam", "private")),
    ],
)
def test_a_run_cut_off_in_round_two_ends_in_the_same_bytes(
    config: RunConfig, shared: SharedRuns, place: str, variant: str
) -> None:
    config = with_settings(config, VARIANTS[variant])
    whole = shared.whole(config)
    stop_at(config, 2, place)
    federate(config.replace(resume=True))
    assert released(config) == released(whole)
    assert read_run_config(Path(config.out))["resumed_after"] == [1 if place[0] == "s" else 2]
    assert [line["round"] for line in rounds_of(config)] == [1, 2, 3, 4]
    told = [line.get("adapter_digest") for line in rounds_of(config)]
    assert told == [line.get("adapter_digest") for line in rounds_of(whole)]


def test_a_resumed_run_has_the_settings_of_single_sites_that_it_began_with(
    config: RunConfig, shared: SharedRuns
) -> None:
    config = with_settings(config, VARIANTS["private"])
    own = {"micu": {"patients": 3}}  # by which each of its private steps is divided
    whole, plain = shared.whole(config, own), shared.whole(config)
    stop_at(config, 2, "save_checkpoint", own)
    with pytest.raises(UsageError, match=r"patients is 4, the run began with 3; leave it"):
        federate(config.replace(resume=True), own={"micu": {"patients": 4}})
    federate(config.replace(resume=True))
    assert read_run_config(Path(config.out))["site_settings"] == {"micu.patients": 3}
    assert released(config) == released(whole)
    assert released(config) != released(plain)


def test_a_run_started_anew_in_its_folder_has_its_whole_privacy_budget(config: RunConfig) -> None:
    private = with_settings(config, {"rounds": 1, "privacy.epsilon": 8.0})
    own = {"micu": {"epsilon-limit": 8}}
    stop_at(private, 1, "save_checkpoint", own)
    federate(private, own=own)
    assert all("weight" in site for site in rounds_of(private)[0]["sites"].values())


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_bytes(config: RunConfig) -> None:
    config = config.replace(rounds=5)
    whole = elsewhere(config, "whole")
    started = time.monotonic()
    federate(whole)
    length_s = time.monotonic() - started
    moments = random.Random(5)
    kills = runs = 0
    while kills < KILLS:
        one = elsewhere(config, f"killed-{runs}")
        Path(one.out).mkdir()
        (Path(one.out) / ROUNDS_FILE).touch()  # so that the first start may say resume, too
        while kills < KILLS and killed(one, moments.uniform(0, 0.5 * length_s)):
            kills += 1
        federate(one.replace(resume=True))
        assert released(one) == released(whole)
        runs += 1


def killed(config: RunConfig, after_s: float) -> bool:
    """Go on with a run in a process of its own; kill it after a while, if it has not ended."""
    # Forked: a process that imported everything anew would spend the while on that.
    process = multiprocessing.get_context("fork").Process(
        target=federate, args=(config.replace(resume=True),)
    )
    process.start()
    process.join(after_s)
    if process.exitcode is None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_a_run_that_has_ended_ends_again_in_the_same_adapter(
    config: RunConfig, shared: SharedRuns
) -> None:
    shutil.copytree(shared.whole(config).out, config.out)
    before, lines = released(config), rounds_of(config)
    federate(config.replace(resume=True))
    assert released(config) == before
    assert [line["round"] for line in rounds_of(config)] == [line["round"] for line in lines]


def test_a_line_cut_off_by_the_crash_is_written_again(stopped: RunConfig) -> None:
    path = Path(stopped.out) / ROUNDS_FILE
    text = path.read_text()
    path.write_text(text[: text.rindex('"round"')])
    federate(stopped.replace(resume=True))
    assert [line["round"] for line in rounds_of(stopped)] == [1, 2, 3, 4]


def test_a_run_goes_on_with_its_own_settings_only(stopped: RunConfig) -> None:
    other = with_settings(stopped, {"resume": True, "train.learning-rate": 0.5})
    with pytest.raises(UsageError, match=r"train\.learning-rate is 0\.5, the run began with 0\.01"):
        federate(other)
    # What changes no number may be another.
    federate(with_settings(stopped, {"resume": True, "train.threads": 2}))


def test_where_nothing_was_begun_nothing_is_resumed(config: RunConfig) -> None:
    with pytest.raises(FederationError, match="holds no run to resume"):
        federate(config.replace(resume=True))


def test_two_processes_do_not_work_on_one_run(stopped: RunConfig) -> None:
    claim = RunFolder(Path(stopped.out), resume=True)
    with pytest.raises(FederationError, match="another process works"):
        federate(stopped.replace(resume=True))
    claim.close()
    federate(stopped.replace(resume=True))


@pytest.mark.parametrize("damage", ["cut off", "other settings", "no JSON"])
def test_a_damaged_checkpoint_is_named(stopped: RunConfig, damage: str) -> None:
    path = Path(stopped.out) / CHECKPOINT_FILE
    data = path.read_bytes()
    changed = {
        "cut off": data[:100],
        "other settings": data.replace(b"settings", b"settigns"),
        "no JSON": data.replace(b"fedvitals-checkpoint/1", b"fedvitals-checkpoint/0"),
    }
    path.write_bytes(changed[damage])
    with pytest.raises(FederationError, match=r"state\.safetensors .*cannot be resumed"):
        federate(stopped.replace(resume=True))


def test_a_site_that_was_away_is_back_in_the_next_round(config: RunConfig) -> None:
    def away(message: Message, reply: Message) -> None:
        if ordered(message) == ("micu", 2):
            raise RuntimeError

    run_changed(config, away)
    shares = [line["sites"]["micu"].get("weight") for line in rounds_of(config)[:3]]
    assert shares[1] is None
    assert shares[0] == shares[2] is not None
    json.dumps(rounds_of(config))
