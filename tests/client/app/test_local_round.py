from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client.app.dataset import SiteData, load_site
from client.app.local_round import RoundRequest, run_local_round, site_backbone
from client.app.node_config import NodeSettings, read_node_settings
from client.privacy.budget_ledger import Ledger
from client.privacy.budget_session import PrivacySession, open_session
from common.adapter.serialization.message import decode
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.errors import AdapterError
from tests.samples.federation import tiny_run, with_settings

SITE = "micu"
PRIVATE: dict[str, Any] = {
    "privacy.epsilon": 5.0,
    "privacy.sample-rate": 0.5,
    "privacy.patient-windows": 4,
    "train.steps": 2,
}


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    return tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")


def site_of(config: RunConfig) -> tuple[NodeSettings, SiteData, RoundRequest]:
    node = read_node_settings({"partition-id": 0, "num-partitions": 1}, config, "run")
    received = site_backbone(config, node).fresh_adapter(7)
    data = load_site(node, config, SITE, config.windows)
    return node, data, RoundRequest(SITE, 1, "run", True, received)


def session_of(config: RunConfig, node: NodeSettings, data: SiteData) -> PrivacySession:
    return open_session(
        node.state_path,
        config.privacy,
        site=SITE,
        table_digest=data.digest,
        run="run",
        round_number=1,
        rounds=config.rounds,
        round_steps=config.private_steps,
        limit=None,
    )


def test_a_round_validates_trains_and_reports(config: RunConfig) -> None:
    node, data, request = site_of(config)
    encoded, report = run_local_round(request, data, config, node)
    assert encoded is not None
    trained = decode(encoded)
    assert trained.modules == request.received.modules
    assert trained != request.received
    assert (report.steps, report.windows) == (3, len(data.train))
    assert {"wql", "mae.heart_rate", "wql.heart_rate"} <= report.validation.keys()
    assert report.seconds.keys() == {"validation", "training"}


def test_the_last_adapter_is_validated_only(config: RunConfig) -> None:
    node, data, request = site_of(config)
    encoded, report = run_local_round(replace(request, train=False), data, config, node)
    assert (encoded, report.steps, report.loss) == (None, 0, 0.0)
    assert report.validation


def test_a_private_round_requested_again_gets_the_same_reply_at_no_cost(config: RunConfig) -> None:
    config = with_settings(config, PRIVATE)
    node, data, request = site_of(config)
    first, report = run_local_round(request, data, config, node, session_of(config, node, data))
    assert report.validation == {}  # `allow` names no score
    again, _ = run_local_round(request, data, config, node, session_of(config, node, data))
    assert again == first
    assert Ledger(node.state_path).runs(SITE)[0].reserved == config.private_steps


def test_an_adapter_of_another_backbone_is_refused(config: RunConfig) -> None:
    node, data, request = site_of(config)
    foreign = replace(request.received, backbone_digest="0" * 64)
    with pytest.raises(AdapterError, match="the server sent an adapter for backbone"):
        run_local_round(replace(request, received=foreign), data, config, node)
