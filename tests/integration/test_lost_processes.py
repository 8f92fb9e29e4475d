"""Sites whose processes die: the run goes on without them, and with them again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from common.config.run_config import FederationConfig, RunConfig
from tests.integration.setup.deployed import Coordinator, Site, usable, with_federation
from tests.integration.setup.processes import finish, kill, wait_for

pytestmark = pytest.mark.slow
SITES = ("ccu", "micu", "sicu")


@pytest.fixture(scope="module")
def site_names() -> tuple[str, ...]:
    """One more, which goes on while the others are away: they are lost in the same minute."""
    return SITES


def lose_app(site: Site) -> None:
    kill([site.stopped_app()])


def lose_node(site: Site) -> None:
    app = site.stopped_app()
    site.kill("node")
    psutil.Process(app).resume()  # its answer finds nobody


def missed(folder: Path, name: str, since: int) -> bool:
    return any(name not in sites for sites in usable(folder)[since:])


def test_a_lost_app_and_a_lost_node_come_back_into_the_same_run(
    coordinator: Coordinator, sites: dict[str, Site], deployed_run: RunConfig
) -> None:
    folder = Path(deployed_run.out)
    # Longer than the minute after which Flower counts app and node as dead: the round that loses
    # them ends when both could be back.
    one = FederationConfig(min_sites=1, wait_s=60.0, round_timeout_s=90.0)
    # How many rounds pass until both are back is up to the machine: the run is stopped then. A
    # message takes its time, for the app to be killed in the middle of it.
    longer = deployed_run.replace(train=deployed_run.train.replace(steps=200))
    run = coordinator.start_run(with_federation(longer, one, rounds=100))
    # A run begins with its quorum; the other sites join the next rounds.
    wait_for("all take part", lambda: usable(folder)[-1:] == [set(SITES)])
    before = len(usable(folder))
    # Each in the middle of its own message, whichever gets it first.
    with ThreadPoolExecutor() as pool:
        lost = [pool.submit(lose_app, sites["micu"]), pool.submit(lose_node, sites["ccu"])]
    for loss in lost:
        loss.result()
    for name in ("micu", "ccu"):
        wait_for(f"{name} is missed", partial(missed, folder, name, before), timeout_s=300.0)
    wait_for("both are back", lambda: usable(folder)[-1:] == [set(SITES)], timeout_s=300.0)
    coordinator.stop_run()
    code, said = finish(run)
    assert code == 10
    assert "finished:stopped" in said
