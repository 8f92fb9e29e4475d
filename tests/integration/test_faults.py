"""Network faults between the processes that cost no round: the bytes are the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from common.config.run_config import RunConfig
from server.runs.run_folder import read_rounds
from tests.integration.conftest import SITES
from tests.integration.setup.deployed import Coordinator, Site, assert_as_simulated, usable
from tests.integration.setup.processes import finish, wait_for
from tests.integration.setup.tls_proxy import TlsProxy
from tests.samples.ports import free_port

pytestmark = pytest.mark.slow
DROPPED_S, SETTLED_S = 30.0, 5.0
"""Within the second, what was on its way may still end a round."""


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


def new_app(site: Site, before: set[int]) -> bool:
    return bool(site.app_processes() - before)


def test_a_dropped_connection_and_a_server_error_cost_nothing(
    coordinator: Coordinator,
    proxy: TlsProxy,
    sites: dict[str, Site],
    deployed_run: RunConfig,
    deployed_cohort: Path,
    tmp_path: Path,
) -> None:
    folder = Path(deployed_run.out)
    run = coordinator.start_run(deployed_run)
    wait_for("round 1 has ended", lambda: len(read_rounds(folder)) >= 1)
    before = {name: site.app_processes() for name, site in sites.items()}
    # Not while a node fetches its request: Flower delivers each once, and one that is lost on the
    # way costs its site the round.
    for name, site in sites.items():
        wait_for(f"{name} has its request", partial(new_app, site, before[name]))
    proxy.cut()
    time.sleep(SETTLED_S)
    ended = len(read_rounds(folder))
    time.sleep(DROPPED_S - SETTLED_S)
    assert len(read_rounds(folder)) == ended < 4, "nothing came through"
    proxy.mend()
    proxy.fail_once("/v1/fleet/push-messages")
    code, said = finish(run)
    assert code == 0, said
    assert proxy.failed
    assert usable(folder) == [set(SITES)] * 4
    assert_as_simulated(deployed_run, deployed_cohort, tmp_path / "simulated")
