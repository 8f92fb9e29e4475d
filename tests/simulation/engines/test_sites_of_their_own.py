"""Sites with settings of their own: hospitals that come late, unequal ranks, rounding, shares."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from client.app.client_app import app as client_app
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.errors import FederationError, UsageError
from server.runs.run_folder import read_run_config
from server.server_app import app as server_app
from simulation.engines import inprocess
from simulation.run import federate
from tests.samples.federation import (
    SharedRuns,
    elsewhere,
    released,
    rounds_of,
    tiny_run,
    with_settings,
)

pytestmark = pytest.mark.usefixtures("figures_undrawn")

SITES = ("ccu", "micu", "sicu")


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    return tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")


def hospitals(cohort: Path, state: Path) -> list[dict[str, Any]]:
    """Node configurations as three hospitals have them: a table each, and no announcement."""
    return [
        {
            "data-path": str(cohort / "sites" / f"{site}.parquet"),
            "site-id": site,
            "state-path": str(state / site),
        }
        for site in SITES
    ]


class LateGrid(inprocess.InProcessGrid):
    """Its third node comes when the first round is under way."""

    late = True

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes that are there."""
        return [node for node in super().get_node_ids() if node < 3 or not self.late]

    def _deliver(self, message: Message) -> Message:
        if message.metadata.message_type == "train":
            self.late = False
        return super()._deliver(message)


def test_a_hospital_that_comes_late_takes_part_from_the_next_round(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inprocess, "InProcessGrid", LateGrid)
    own = hospitals(tiny_cohort, tmp_path / "state")
    inprocess.run_in_process(server_app, client_app, config.flat(), nodes=3, own=own)
    took_part = [sorted(line["sites"]) for line in rounds_of(config)]
    assert took_part == [["ccu", "micu"], list(SITES), list(SITES), list(SITES)]


def test_hospitals_end_in_the_same_adapter_as_their_simulation(
    config: RunConfig, shared: SharedRuns, tiny_cohort: Path, tmp_path: Path
) -> None:
    deployed = elsewhere(config, "deployed")
    own = hospitals(tiny_cohort, tmp_path / "state")
    inprocess.run_in_process(server_app, client_app, deployed.flat(), nodes=3, own=own)
    assert released(deployed) == released(shared.whole(config))


@pytest.mark.parametrize("rule", ["svd", "flora"])
def test_sites_of_unequal_ranks_train_one_adapter(config: RunConfig, rule: str) -> None:
    mixed = with_settings(config, {"aggregation.rule": rule, "lora.rank": 4, "lora.min-rank": 1})
    own = {"ccu": {"lora-rank": 1}, "micu": {"lora-rank": 2}}
    federate(mixed, own=own)
    sites = read_run_config(Path(mixed.out))["sites"]
    assert {name: site["rank"] for name, site in sites.items()} == {"ccu": 1, "micu": 2, "sicu": 4}
    first = rounds_of(mixed)[0]["sites"]
    assert first["ccu"]["bytes_received"] < first["micu"]["bytes_received"]
    assert first["micu"]["bytes_received"] < first["sicu"]["bytes_received"]
    assert all("weight" in site for site in first.values())
    assert released(mixed).is_finite()


def test_a_rank_that_the_rule_cannot_average_is_turned_away(config: RunConfig) -> None:
    strict = with_settings(config, {"federation.min-sites": 3})
    own: list[dict[str, Any]] = [{"lora-rank": 1}, {}, {}]
    with pytest.raises(UsageError, match="site ccu cannot take part: its lora-rank is 1"):
        federate(config, own={"ccu": own[0]})
    assert not Path(config.out).exists(), "refused before anything is written"
    with pytest.raises(FederationError, match="ccu: its lora-rank is 1, the run allows 2; leave"):
        inprocess.run_in_process(server_app, client_app, strict.flat(), nodes=3, own=own)


@pytest.mark.parametrize("rule", ["median", "trimmed-mean", "krum", "multi-krum", "fedex"])
def test_every_rule_conducts_a_run(config: RunConfig, rule: str) -> None:
    settings = {"aggregation.rule": rule, "aggregation.trim": 0.34, "aggregation.byzantine": 0}
    one = with_settings(config, settings)
    federate(one)
    assert released(one).is_finite()
    assert len(rounds_of(one)) == 4


@pytest.mark.parametrize("optimizer", ["fedavgm", "fedadam", "fedyogi"])
def test_a_server_optimizer_takes_the_step(
    config: RunConfig, shared: SharedRuns, optimizer: str
) -> None:
    settings = {"aggregation.optimizer": optimizer, "aggregation.learning-rate": 0.01}
    one = with_settings(config, settings)
    federate(one)
    told, plain = (
        [line.get("adapter_digest") for line in rounds_of(run)]
        for run in (one, shared.whole(config))
    )
    assert told[0] != plain[0]


def test_int8_quarters_what_a_site_sends_and_hardly_moves_the_adapter(
    config: RunConfig, shared: SharedRuns
) -> None:
    whole = shared.whole(config)
    small = with_settings(elsewhere(config, "int8"), {"wire.dtype": "int8"})
    federate(small)
    sizes = [rounds_of(one)[0]["sites"]["micu"]["bytes_received"] for one in (whole, small)]
    assert sizes[1] < 0.6 * sizes[0]  # the header is half of so small a message
    for name, matrix in released(small).tensors.items():
        np.testing.assert_allclose(matrix, released(whole).tensors[name], atol=2e-2)


def test_a_round_asks_a_share_of_the_sites(config: RunConfig) -> None:
    shared = with_settings(config, {"federation.fraction": 0.6, "rounds": 6})
    federate(shared)
    asked = [frozenset(line["sites"]) for line in rounds_of(shared)]
    assert {len(sites) for sites in asked[:-1]} == {2}
    assert len(set(asked[:-1])) > 1
    assert len(asked[-1]) == 3  # all of them judge the last adapter


def test_sites_that_do_not_exist_have_no_settings(config: RunConfig) -> None:
    with pytest.raises(UsageError, match="unknown site 'micuu'; did you mean 'micu'"):
        federate(config, own={"micuu": {"lora-rank": 1}})
    with pytest.raises(
        UsageError, match="the Ray engine does not support settings of single sites"
    ):
        federate(config.replace(), "ray", own={"micu": {"lora-rank": 1}})
