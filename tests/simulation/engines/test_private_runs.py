"""Runs under differential privacy, end to end: what leaves a site, and what its ledger says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Message

from client.app.client_app import app as client_app
from client.privacy.accountant import Steps, spent
from client.privacy.budget_ledger import Ledger
from common.adapter.serialization.message import bytes_of, inspect
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.errors import FederationError
from server.rounds.checkpoint import load_checkpoint
from server.rounds.report_validation import PRIVACY_KEYS
from server.runs.run_folder import read_run_config
from server.server_app import app as server_app
from simulation.engines.inprocess import run_in_process
from simulation.run import federate
from tests.samples.federation import (
    elsewhere,
    released,
    rounds_of,
    run_changed,
    tiny_run,
    with_settings,
)

pytestmark = pytest.mark.usefixtures("figures_undrawn")

PRIVATE = {
    "privacy.epsilon": 5.0,
    "privacy.sample-rate": 0.5,
    "privacy.patient-windows": 4,
    "train.steps": 2,
}
GUARANTEE = {f"privacy.{key}" for key in PRIVACY_KEYS}
SITES = ("ccu", "micu", "sicu")


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    return tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run", **PRIVATE)


def all_that_leaves(
    config: RunConfig, own: list[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Run; return the contents of every reply to a round's order."""
    seen: list[dict[str, Any]] = []

    def look(message: Message, reply: Message) -> None:
        content = reply.content
        seen.append(
            {
                "arrays": {n: bytes_of(r) for n, r in content.array_records.items()},
                "numbers": dict(content.metric_records["report"]),
                "texts": {n: dict(r) for n, r in content.config_records.items()},
            }
        )

    run_changed(config, look, own)
    return seen


def test_nothing_leaves_but_noised_matrices_and_what_the_settings_tell(config: RunConfig) -> None:
    replies = all_that_leaves(config)
    assert len(replies) == 12
    for reply in replies:
        assert reply["numbers"].keys() == {"steps"} | GUARANTEE
        assert reply["texts"].keys() == {"round"}
        assert reply["texts"]["round"].keys() == {"site", "round", "run"}
        for data in reply["arrays"].values():
            summary = inspect(data)
            assert summary.trained == "b"
            assert all("lora_B" in name for name in summary.matrices)
    sites = read_run_config(Path(config.out))["sites"]
    assert all(site["patients"] is None and site["windows"] is None for site in sites.values())
    weights = [site["weight"] for site in rounds_of(config)[0]["sites"].values()]
    assert weights == pytest.approx([1 / 3] * 3)


def test_what_the_site_allows_by_name_leaves_and_the_report_says_so(config: RunConfig) -> None:
    allow = {"allow": "validation.wql,loss"}
    replies = all_that_leaves(config, [{}, allow, {}])
    told = [r for r in replies if r["texts"]["round"]["site"] == "micu"]
    kept = [r for r in replies if r["texts"]["round"]["site"] != "micu"]
    assert all({"loss", "validation.wql"} <= r["numbers"].keys() for r in told)
    assert all(r["numbers"].keys() == {"steps"} | GUARANTEE for r in kept)
    assert read_run_config(Path(config.out))["sites"]["micu"]["outside"] == "loss, validation.wql"
    for page in ("report.html", "adapter/README.md"):
        text = (Path(config.out) / page).read_text().lower()
        assert "outside the guarantee" in text
        assert "loss, validation.wql" in text


def test_the_whole_run_stays_within_its_budget_and_the_report_states_it(
    config: RunConfig,
) -> None:
    federate(config)
    guarantee = rounds_of(config)[0]["sites"]["micu"]["privacy"]
    steps = Steps(0.5, guarantee["noise-multiplier"], 6)
    assert guarantee["steps"] == 6
    assert spent([steps], 1e-5).prv == guarantee["epsilon"] <= 5.0
    for page in ("report.html", "adapter/README.md"):
        text = (Path(config.out) / page).read_text()
        assert f"{guarantee['epsilon']:.4g}" in text
        assert "adding or removing one patient" in text.lower().replace("\n", " ")
    ledger = Ledger(Path(config.out) / "site")
    assert {record.site for record in ledger.runs()} == set(SITES)
    assert [record.reserved for record in ledger.runs()] == [6, 6, 6]


def test_noise_of_the_operating_system_differs_and_a_simulations_seed_repeats(
    config: RunConfig,
) -> None:
    runs = [elsewhere(config, name) for name in ("first", "second")]
    for run in runs:
        federate(run)
    assert released(runs[0]) != released(runs[1])
    seeded = [
        with_settings(elsewhere(config, name), {"privacy.noise-seed": 3}) for name in ("a", "b")
    ]
    for run in seeded:
        federate(run)
    assert released(seeded[0]) == released(seeded[1])
    assert "fixed seed" in (Path(seeded[0].out) / "report.html").read_text()


def hospitals(cohort: Path, state: Path, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "data-path": str(cohort / "sites" / f"{site}.parquet"),
            "state-path": str(state / site),
            "patients": 10,
            **more,
        }
        for site in SITES
    ]


def test_a_hospital_takes_no_seed_of_the_servers(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    seeded = with_settings(config, {"privacy.noise-seed": 3})
    own = hospitals(tiny_cohort, tmp_path / "state")
    with pytest.raises(FederationError, match="refused by the site's policy: privacy"):
        run_in_process(server_app, client_app, seeded.flat(), nodes=3, own=own)
    assert not list((tmp_path / "state").rglob("*.sqlite"))


def test_the_sites_own_limit_holds_over_its_runs(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    own = hospitals(tiny_cohort, tmp_path / "state", **{"epsilon-limit": 6.0})
    run_in_process(server_app, client_app, config.flat(), nodes=3, own=own)
    second = elsewhere(config, "second")
    with pytest.raises(FederationError, match="refused by the site's policy: privacy"):
        run_in_process(server_app, client_app, second.flat(), nodes=3, own=own)
    for site in SITES:
        first, other = Ledger(tmp_path / "state" / site).runs()
        assert (first.reserved, other.reserved) == (6, 0)


def test_a_site_with_a_limit_takes_part_in_no_run_without_privacy(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    own = hospitals(tiny_cohort, tmp_path / "state", **{"epsilon-limit": 6.0})
    without = with_settings(config, {"privacy.epsilon": 0.0})
    with pytest.raises(FederationError, match="refused by the site's policy: privacy"):
        run_in_process(server_app, client_app, without.flat(), nodes=3, own=own)


def test_both_matrices_may_be_trained_privately_too(config: RunConfig) -> None:
    both = with_settings(config, {"lora.train": "ab", "aggregation.rule": "fedavg"})
    for reply in all_that_leaves(both):
        assert all(inspect(data).trained == "ab" for data in reply["arrays"].values())
    assert released(both).is_finite()


def test_b_alone_travels_without_privacy_too_and_a_stays_bit_by_bit(config: RunConfig) -> None:
    ffa = with_settings(
        config, {"privacy.epsilon": 0.0, "lora.train": "b", "train.steps": 3, "rounds": 2}
    )
    for reply in all_that_leaves(ffa):
        assert all(inspect(data).trained == "b" for data in reply["arrays"].values())
    state = load_checkpoint(Path(ffa.out), ffa)
    assert state is not None
    adapted = adapted_backbone(ffa.backbone, ffa.lora, torch.device("cpu"))
    fresh = adapted.fresh_adapter(derive_seed(ffa.seed, "adapter"))
    assert state.adapter.a_digest() == fresh.a_digest()
    assert state.adapter != fresh
