from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from flwr.cli import utils
from flwr.common.constant import ACCESS_TOKEN_KEY
from flwr.proto.control_pb2 import StartRunResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.superlink.servicer.runtime import runtime_handlers

from common.errors import FederationError
from server.deployment import flwr_cli
from server.superlink import superlink, superlink_patches


def test_flower_is_the_one_that_the_guard_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    superlink.check_release()
    monkeypatch.setattr(superlink, "CREATE", "make_app")
    with pytest.raises(FederationError, match="make_app is not where it was"):
        superlink.check_release()
    monkeypatch.setattr("flwr.__version__", "1.42.0")
    with pytest.raises(FederationError, match=r"flwr 1\.42\.0 is installed"):
        superlink.check_release()


def test_the_runs_id_is_read_from_the_answer() -> None:
    assert superlink.run_id_of(StartRunResponse(run_id=7).SerializeToString()) == "7"
    assert superlink.run_id_of(b"") == ""
    assert superlink.run_id_of(b"\xff\xff") == ""


@pytest.fixture
def _plugin_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(utils, flwr_cli.LOAD, getattr(utils, flwr_cli.LOAD))


@pytest.mark.usefixtures("_plugin_as_before")
def test_flwr_sends_the_credential_and_asks_for_no_other() -> None:
    flwr_cli.use_credential("a.meyer.secret")
    plugin = utils.load_cli_auth_plugin_from_connection("localhost:8000")
    assert plugin.write_tokens_to_metadata([]) == [(ACCESS_TOKEN_KEY, "a.meyer.secret")]


def test_a_flwr_without_a_place_for_it_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(utils, flwr_cli.LOAD)
    with pytest.raises(FederationError, match="would not be sent"):
        flwr_cli.use_credential("a.meyer.secret")


@pytest.mark.parametrize(
    ("sent", "there", "stored"),
    [(b"part", b"part", True), (b"part", b"", False), (b"part", None, False), (b"", b"", False)],
)
def test_a_part_that_is_there_already_is_taken(
    sent: bytes, there: bytes | None, stored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unexpected(*_: Any) -> PushObjectResponse:
        return PushObjectResponse(stored=False)

    monkeypatch.setattr(runtime_handlers, superlink_patches.PUSH_OBJECT, unexpected)
    superlink_patches.accept_resent_objects()
    state = SimpleNamespace(get_object=lambda run, part: there)
    answer = runtime_handlers.push_object(
        PushObjectRequest(object_id="0f", object_content=sent),
        state,  # type: ignore[arg-type]
        SimpleNamespace(run_id=7),  # type: ignore[arg-type]
    )
    assert answer.stored is stored
