"""Attacks on the coordinator: a hostile site, and another user of the coordinator's machine."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.proto.control_pb2 import StartRunRequest
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.superlink.main import create_app
from flwr.superlink.servicer.fleet import fleet_handlers
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from common.config.run_config import RunConfig
from common.errors import FederationError
from common.flower.asgi import App
from server.deployment.control_log import ControlLog, control_log, read_log
from server.deployment.operators import Operators
from server.rounds import enrollment
from server.rounds.enrollment import enroll_sites
from server.rounds.site_registry import MOST_REFUSED, SiteRegistry
from server.superlink import superlink_patches
from server.superlink.control_api_guard import require_credential
from server.superlink.superlink import run_id_of
from tests.samples.hospital_grid import ANSWER, DIGEST, HospitalGrid, Node, fails, joins_as, says

EVIL = 1
"""Id of the hostile node: the lowest, so that it is queried and read first."""


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrollment, "POLL_S", 0.0)


def gathered(evil: Node, *, least: int = 2, late: int = 0, **settings: Any) -> SiteRegistry:
    """The registry of a run of two honest hospitals and a hostile one."""
    nodes = {
        EVIL: evil,
        2: Node("hospital-1", joins_as("hospital-1"), late),
        3: Node("hospital-2", joins_as("hospital-2"), late),
    }
    config = RunConfig.parse(
        {
            "federation.min-sites": least,
            "federation.wait-s": 20.0,
            "federation.weights": "equal",
            **settings,
        }
    )
    return enroll_sites(HospitalGrid(nodes), config, DIGEST)


def members(registry: SiteRegistry) -> dict[str, int]:
    return {name: member.node_id for name, member in registry.members.items()}


HONEST = {"hospital-1": 2, "hospital-2": 3}


def test_a_node_joins_as_one_site() -> None:
    """A hostile hospital answers for eight sites.

    Before: it joined as all eight, with eight of ten equal weights.
    """
    eight = {f"site.s{number}": ANSWER for number in range(8)}
    registry = gathered(Node("evil", says({**eight, "node": {"nodes": 0}})))
    assert members(registry) == HONEST
    assert "it answers for 8 sites" in registry.refused["evil"]


@pytest.mark.parametrize("own", ["evil", ""])
def test_a_name_belongs_to_its_registered_key(own: str) -> None:
    """A node with a lower id calls itself hospital-1.

    Before: it was hospital-1, and the real one was refused as "a second node".
    """
    registry = gathered(Node(own, joins_as("hospital-1")))
    assert members(registry) == HONEST
    assert list(registry.refused) == [own or f"node {EVIL}"]


def test_a_reply_in_another_nodes_name_is_refused() -> None:
    """A node sends its join reply with the id of another node as the sender.

    Before: the sender of a join reply was not checked.
    """
    forged = says({"site.evil": ANSWER}, source=2)
    registry = gathered(Node("evil", forged))
    assert members(registry) == HONEST
    assert "comes from another node" in registry.refused["evil"]


@pytest.mark.parametrize("nodes", [1, 1000, True, -5, 10**12, "1", 1.0])
def test_no_reply_makes_a_deployment_a_simulation(nodes: Any) -> None:
    """A node announces a number of nodes, as those of a simulation do.

    Before: "1" ended the wait before the others had connected, so that the run failed; "1000" made
    every run wait until the timeout.
    """
    evil = Node("evil", says({"site.evil": ANSWER, "node": {"nodes": nodes}}))
    assert members(gathered(evil, late=3)).keys() >= {"evil"}
    assert members(gathered(evil, least=3, late=3)) == {**HONEST, "evil": EVIL}


@pytest.mark.parametrize(
    "evil",
    [
        Node("evil", fails("on purpose")),
        Node("evil", says({f"site.s{number}": ANSWER for number in range(8)})),
        Node("evil", joins_as("evil", usable=False)),
        Node("evil", joins_as("evil", rank=True)),
    ],
    ids=["error", "eight", "unusable", "garbled"],
)
def test_an_invalid_reply_does_not_end_the_wait_for_the_others(evil: Node) -> None:
    """The first node replies with an error or with sites that cannot take part.

    Before: the run began without the others, and failed for lack of sites.
    """
    assert members(gathered(evil, late=3)) == HONEST


def test_one_deviating_step_length_excludes_no_other_site() -> None:
    """A site whose name comes first sends another step length than all others.

    Before: the first name fixed the step length, and all other sites were refused.
    """
    nodes = {
        EVIL: Node("aaa", joins_as("aaa", **{"step-minutes": 1440})),
        **{
            number: Node(f"hospital-{number}", joins_as(f"hospital-{number}"))
            for number in range(2, 5)
        },
    }
    config = RunConfig.parse({"federation.min-sites": 3, "federation.wait-s": 5.0})
    registry = enroll_sites(HospitalGrid(nodes), config, DIGEST)
    assert sorted(registry.members) == ["hospital-2", "hospital-3", "hospital-4"]
    assert "its steps are 1440 min" in registry.refused["aaa"]


@given(
    key=st.sampled_from(sorted(ANSWER)),
    value=st.one_of(
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        st.text(max_size=5000),
        st.binary(max_size=50),
        st.lists(st.integers(0, 9), min_size=1, max_size=5),
    ),
)
def test_a_field_is_in_its_range_or_its_site_is_out(key: str, value: Any) -> None:
    """A site sends anything at all in one of its fields.

    Before: step lengths of 987654321 minutes and below zero, True as a number and NaN passed, and
    reasons carried the site's own text, of any length and with control characters.
    """
    evil = Node("evil", joins_as("evil", **{key: value}))
    config = RunConfig.parse({"federation.min-sites": 1, "federation.wait-s": 1.0})
    honest = {n: Node(f"hospital-{n}", joins_as(f"hospital-{n}")) for n in (2, 3)}
    registry = enroll_sites(HospitalGrid({EVIL: evil, **honest}), config, DIGEST)
    assert {"hospital-2", "hospital-3"} <= set(registry.members)
    for why in registry.refused.values():
        assert len(why) <= 300
        assert why.isprintable()
    if "evil" in registry.members:
        member = registry.members["evil"]
        assert type(member.step_minutes) is int
        assert 1 <= member.step_minutes <= 1440
        assert member.rank == 8
        assert type(member.patients) in (int, type(None))
        assert all(len(t) <= 200 and t.isprintable() for t in (member.source, member.rule))


def test_refusals_do_not_pile_up() -> None:
    """Nodes come and go with ever new names.

    Before: each left a line in memory and in config.json permanently.
    """
    registry = SiteRegistry(RunConfig(), DIGEST)
    for number in range(10 * MOST_REFUSED):
        registry.refuse(f"node {number}", "x" * 10_000)
    assert len(registry.refused) == MOST_REFUSED
    with pytest.raises(FederationError) as error:
        registry.require(2)
    assert len(str(error.value)) < 5000


def test_a_node_cannot_reply_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with a valid key sends a hospital's reply to a message id that it guessed.

    Before: Flower accepted it, since it had the id of the queried node.
    """
    taken: list[Any] = []
    monkeypatch.setattr(
        fleet_handlers,
        superlink_patches.PUSH_MESSAGES,
        lambda request, state: taken.append(request),
    )
    superlink_patches.reject_foreign_replies()

    def push(sender: int, source: int) -> None:
        message = SimpleNamespace(metadata=SimpleNamespace(src_node_id=source))
        request = SimpleNamespace(node=SimpleNamespace(node_id=sender), messages_list=[message])
        fleet_handlers.push_messages(request=request, state=None)  # type: ignore[arg-type]

    push(2, 2)
    assert len(taken) == 1
    with pytest.raises(HTTPException):
        push(EVIL, 2)
    assert len(taken) == 1


# The control API: Flower's real application, behind the guard.

START = "/v1/control/start-run"
LIST = "/v1/control/list-runs"
BODY = StartRunRequest().SerializeToString()
"""Empty, as the other requests are."""


@pytest.fixture(scope="module")
def flower_app() -> App:
    return create_app()


@pytest.fixture
def operators(tmp_path: Path) -> Operators:
    return Operators(tmp_path)


@pytest.fixture
def door(flower_app: App, operators: Operators) -> App:
    return require_credential(
        flower_app, operators, ControlLog(control_log(operators.state)), run_id_of
    )


def knock(app: App, path: str, **headers: str) -> httpx.Response:
    async def post() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            kind = {"content-type": PROTOBUF_MEDIA_TYPE, "accept": PROTOBUF_MEDIA_TYPE}
            return await client.post(path, content=BODY, headers={**kind, **headers})

    return asyncio.run(post())


def bearer(credential: str) -> dict[str, str]:
    return {"authorization": f"Bearer {credential}"}


def test_a_call_with_a_credential_is_allowed_and_logged(door: App, operators: Operators) -> None:
    answer = knock(door, LIST, **bearer(operators.add("a.meyer")))
    assert answer.status_code == 200, answer.text
    (entry,) = read_log(control_log(operators.state))
    assert (entry["operator"], entry["method"], entry["status"]) == ("a.meyer", "list-runs", 200)


@pytest.mark.parametrize("path", [START, LIST])
def test_no_call_without_a_credential(door: App, operators: Operators, path: str) -> None:
    """A user of the coordinator's machine calls the control API.

    Before: anyone who reached the port could start a run at every hospital.
    """
    operators.add("a.meyer")
    answer = knock(door, path)
    assert answer.status_code == 401
    assert "needs an operator's credential" in answer.json()["detail"]
    (entry,) = read_log(control_log(operators.state))
    assert (entry["operator"], entry["status"]) == (None, 401)


def test_no_call_with_an_invalid_credential(door: App, operators: Operators) -> None:
    """A removed operator's credential; the hash in the state folder; another operator's name.

    Before: no credential was needed.
    """
    good, old = operators.add("a.meyer"), operators.add("b.novak")
    assert knock(door, LIST, **bearer(old)).status_code == 200
    operators.remove("b.novak")
    stolen = json.loads(operators.file.read_text())["a.meyer"]["sha256"]
    assert stolen == hashlib.sha256(good.encode()).hexdigest()
    secret = good.rpartition(".")[2]
    for wrong in (
        old,
        stolen,
        f"a.meyer.{stolen}",
        f"b.novak.{secret}",
        secret,
        good[:-1],
        good + "A",
        good.upper(),
        "services." + secret,
        "",
    ):
        assert knock(door, LIST, **bearer(wrong)).status_code == 401, wrong
    assert knock(door, LIST, authorization=f"Basic {good}").status_code == 401
    assert knock(door, LIST, **bearer(good)).status_code == 200


def test_damaged_hashes_allow_no_call(door: App, operators: Operators) -> None:
    good = operators.add("a.meyer")
    operators.file.write_text("{")
    assert knock(door, LIST, **bearer(good)).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/start-run/",
        "//v1/control/start-run",
        "/v1/control/get-login-details",
        "/v1/control/refresh-auth-tokens",
        "/v1/fleet/../control/start-run",
        "/v1/fleet/%2e%2e/control/start-run",
        "/v1/fleet/..%2fcontrol%2fstart-run",
        "/docs",
        "/openapi.json",
    ],
)
def test_no_other_spelling_of_the_path_is_allowed(door: App, path: str) -> None:
    """A control API path is written like one of an API with its own authentication.

    Before: there was no guard.
    """
    assert knock(door, path).status_code in (401, 403, 404, 405)


def test_an_invalid_host_is_refused(door: App) -> None:
    """The Host header contains a path, from which Flower reads the authentication it requires.

    Before: a call of the fleet API passed without the node's signature.
    """
    answer = knock(door, "/v1/fleet/push-object", host="x/v1/runtime/push-object?")
    assert answer.status_code == 400


def test_a_call_that_cannot_be_logged_is_refused(flower_app: App, operators: Operators) -> None:
    log = operators.state / "logs"
    log.write_text("a file in the way")
    door = require_credential(flower_app, operators, ControlLog(log / "control.jsonl"), run_id_of)
    assert knock(door, LIST, **bearer(operators.add("a.meyer"))).status_code == 503


def test_refused_calls_do_not_fill_the_disk(door: App, operators: Operators) -> None:
    """A user of the machine calls without a credential as often as the machine allows."""
    for _ in range(200):
        assert knock(door, LIST).status_code == 401
    size = control_log(operators.state).stat().st_size
    entries = list(read_log(control_log(operators.state)))
    assert len(entries) < 100
    assert size < 100 * 200
