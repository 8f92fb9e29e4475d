"""Faults between and in the processes of a federation.

A lost connection costs no round: the bytes are the same. A lost process costs its site rounds, and
the site takes part again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from common.config.run_config import FederationConfig, RunConfig
from server.runs.run_folder import read_rounds
from tests.integration.setup.deployed import (
    Coordinator,
    Site,
    assert_as_simulated,
    usable,
    with_federation,
)
from tests.integration.setup.processes import finish, kill, wait_for
from tests.integration.setup.tls_proxy import TlsProxy
from tests.samples.ports import free_port

pytestmark = pytest.mark.slow
SITES = ("ccu", "micu", "sicu")
DROPPED_S, SETTLED_S = 20.0, 5.0
"""Length of the cut, and its first part, in which the server may still log an earlier round."""


@pytest.fixture(scope="module")
def site_names() -> tuple[str, ...]:
    """One more, which goes on while the others are away: they are lost in the same minute."""
    return SITES


@pytest.fixture(scope="module")
def proxy(coordinator: Coordinator) -> Iterator[TlsProxy]:
    """Between all sites and the SuperLink."""
    keys = coordinator.folder / "keys" / "private"
    upstream = int(coordinator.address.rpartition(":")[2])
    proxy = TlsProxy(free_port(), upstream, keys / "tls.crt", keys / "tls.key", keys / "ca.crt")
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def address(proxy: TlsProxy) -> str:
    return proxy.address


def test_a_dropped_connection_and_a_server_error_cost_nothing(
    coordinator: Coordinator,
    proxy: TlsProxy,
    sites: dict[str, Site],
    deployed_run: RunConfig,
    deployed_cohort: Path,
    tmp_path: Path,
) -> None:
    folder = Path(deployed_run.out)
    two = deployed_run.replace(rounds=2)
    run = coordinator.start_run(two)
    wait_for("round 1 has ended", lambda: len(read_rounds(folder)) >= 1)
    # While all apps work: Flower delivers a request once and lets a reply be uploaded once, so one
    # that is on its way costs its site the round.
    with ThreadPoolExecutor(len(sites)) as pool:
        apps = list(pool.map(lambda site: site.stopped_app(), sites.values()))
    proxy.cut()
    for app in apps:
        psutil.Process(app).resume()
    time.sleep(SETTLED_S)
    ended = len(read_rounds(folder))
    time.sleep(DROPPED_S - SETTLED_S)
    assert len(read_rounds(folder)) == ended < 3, "nothing came through"
    proxy.mend()
    proxy.fail_once("/v1/fleet/push-messages")
    code, said = finish(run)
    assert code == 0, said
    assert proxy.failed
    assert usable(folder) == [set(SITES)] * 3
    assert_as_simulated(two, deployed_cohort, tmp_path / "simulated")


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
