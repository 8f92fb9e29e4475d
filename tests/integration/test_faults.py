"""What goes wrong in and between the processes; where no round is lost, the bytes are the same."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.config import FederationConfig, RunConfig
from server.run_folder import read_rounds
from tests.integration.conftest import SITES
from tests.integration.deployed import (
    Coordinator,
    Site,
    assert_as_simulated,
    finish,
    free_ports,
    kill,
    usable,
    wait_for,
    with_federation,
)
from tests.integration.tls_proxy import TlsProxy

pytestmark = pytest.mark.slow
DROPPED_S = 30.0


@pytest.fixture(scope="module")
def proxy(coordinator: Coordinator) -> Iterator[TlsProxy]:
    """Between all sites and the SuperLink."""
    keys = coordinator.folder / "keys" / "private"
    upstream = int(coordinator.address.rpartition(":")[2])
    proxy = TlsProxy(
        free_ports(1)[0], upstream, keys / "tls.crt", keys / "tls.key", keys / "ca.crt"
    )
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
    two_sites: Path,
    tmp_path: Path,
) -> None:
    folder = Path(deployed_run.out)
    run = coordinator.start_run(deployed_run)
    wait_for("round 1 has ended", lambda: len(read_rounds(folder)) == 1)
    proxy.cut()
    time.sleep(DROPPED_S)
    assert len(read_rounds(folder)) == 1, "nothing came through"
    proxy.mend()
    proxy.fail_once("/v1/fleet/push-messages")
    code, said = finish(run)
    assert code == 0, said
    assert proxy.failed
    assert usable(folder) == [set(SITES)] * 4
    assert_as_simulated(deployed_run, two_sites, tmp_path / "simulated")


def test_a_lost_app_and_a_lost_node_cost_their_rounds_and_no_more(
    coordinator: Coordinator, sites: dict[str, Site], deployed_run: RunConfig
) -> None:
    folder = Path(deployed_run.out)
    one = FederationConfig(min_sites=1, wait_s=60.0, round_timeout_s=20.0)
    run = coordinator.start_run(with_federation(deployed_run, one, rounds=9))
    # A run begins with its quorum; the other site joins the next round.
    wait_for("both sites take part", lambda: usable(folder)[-1:] == [set(SITES)])
    kill(sites["micu"].next_app())
    # Flower counts an app as dead after a minute, and the node takes no other work until then.
    wait_for("micu is missed", lambda: usable(folder)[-1:] == [{"ccu"}])
    wait_for("micu is back", lambda: usable(folder)[-1:] == [set(SITES)])
    sites["ccu"].kill("node")
    wait_for("ccu is missed", lambda: usable(folder)[-1:] == [{"micu"}])
    code, said = finish(run)
    assert code == 0, said
    assert usable(folder)[-1] == set(SITES), "both are back"
