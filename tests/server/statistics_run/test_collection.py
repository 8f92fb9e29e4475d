"""Collection of statistics from nodes that answer honestly, forge, fail or do not answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from common.config.run_config import FederationConfig, RunConfig
from common.errors import StatisticsError
from server.statistics_run.collection import Replies, collect_statistics
from simulation.engines.inprocess import InProcessGrid
from tests.common.data.statistics.test_reply import EXACT
from tests.samples.hospital_grid import HospitalGrid, Node, Said, fails, joins_as, says

TEXT = json.dumps(EXACT)


def sends(text: Any = TEXT, **more: Any) -> Said:
    return says({"statistics": {"json": text}, **more})


def collected(nodes: dict[int, Node], least: int = 1, wait_s: float = 0.2) -> Replies:
    federation = FederationConfig(min_sites=least, wait_s=wait_s)
    return collect_statistics(HospitalGrid(nodes), RunConfig(federation=federation))


def test_each_connected_node_is_asked_once_and_its_reply_validated() -> None:
    asked = []

    def honest(question: Message) -> Message:
        asked.append(question)
        assert not question.content, "a request has no parameter"
        assert question.metadata.message_type == "query"
        return sends()(question)

    found = collected({1: Node("ccu", honest), 2: Node("micu", honest, after=1)}, least=2)
    assert set(found.sites) == {"ccu", "micu"}
    assert found.sites["ccu"] == EXACT
    assert not found.refused
    assert len(asked) == 2


FORGED: dict[str, Said] = {
    "text": sends("{}"),
    "number": sends(7),
    "bytes": sends(b"{}"),
    "small": sends(TEXT.replace("100", "3")),
    "record": sends(patients={"names": "Meier"}),
    "key": says({"statistics": {"json": TEXT, "more": 1}}),
    "other node": says({"statistics": {"json": TEXT}}, source=9),
    "join": joins_as("ccu"),
    "nothing": says({}),
    "error": fails("refused by the site's policy: statistics\x1b[31m"),
    "long": sends(TEXT + " " * 10**6),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_reply_is_refused_and_the_others_stay(name: str) -> None:
    found = collected({1: Node("ccu", FORGED[name]), 2: Node("micu", sends())})
    assert set(found.sites) == {"micu"}
    assert set(found.refused) == {"ccu"}
    assert found.refused["ccu"].isprintable()
    assert len(found.refused["ccu"]) < 700


def test_a_node_answers_under_its_registered_name_alone() -> None:
    found = collected({1: Node("micu", sends()), 2: Node("", sends())})
    assert set(found.sites) == {"micu"}
    assert found.refused == {"node 2": "its key is registered under no site's name"}


def test_a_silent_node_is_waited_for_and_named() -> None:
    class Silent(HospitalGrid):
        def pull_messages(self, message_ids: Any) -> Any:
            ids = [one for one in message_ids if self._waiting[one].metadata.dst_node_id != 2]
            return super().pull_messages(ids)

    grid = Silent({1: Node("micu", sends()), 2: Node("ccu", sends())})
    federation = FederationConfig(min_sites=2, wait_s=0.2)
    found = collect_statistics(grid, RunConfig(federation=federation))
    assert set(found.sites) == {"micu"}
    assert found.refused == {"ccu": "no reply in time"}


def test_without_any_reply_the_reasons_are_told() -> None:
    with pytest.raises(StatisticsError, match="no site has sent statistics: ccu: refused by"):
        collected({1: Node("ccu", fails("refused by the site's policy: statistics"))})
    with pytest.raises(StatisticsError, match="none is connected"):
        collected({})


def test_a_simulation_s_nodes_are_not_asked() -> None:
    from client.app.client_app import app

    grid = InProcessGrid(app, RunConfig(statistics=True).flat(), 1)
    with pytest.raises(StatisticsError, match="python -m simulation statistics"):
        collect_statistics(grid, RunConfig())


def test_records_of_other_kinds_are_refused() -> None:
    from flwr.app import MetricRecord

    def more(question: Message) -> Message:
        content = RecordDict(
            {"statistics": ConfigRecord({"json": TEXT}), "n": MetricRecord({"a": 1})}
        )
        return Message(content, reply_to=question)

    found = collected({1: Node("ccu", more), 2: Node("micu", sends())})
    assert "ccu" in found.refused
