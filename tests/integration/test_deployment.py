"""SuperLink, SuperNodes and apps as processes of their own, with TLS and keys of deploy/certs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.backbones.loading import load_backbone
from common.config import FederationConfig, LoraConfig, RunConfig, TrainConfig, WindowConfig
from common.peft_adapter import load_peft_folder
from server.deployment.services import running
from server.run_folder import read_rounds
from simulation.federate import federate
from tests.integration.deployed import (
    Coordinator,
    Site,
    kill,
    make_coordinator,
    make_site,
    script,
    wait_for,
)

pytestmark = pytest.mark.slow
SITES = ("ccu", "micu")


@pytest.fixture(scope="module")
def cohort(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two of the cohort's sites that take part, for the simulation to compare with."""
    folder = tmp_path_factory.mktemp("two-sites")
    for name in SITES:
        (folder / "sites").mkdir(exist_ok=True)
        shutil.copy(tiny_cohort / "sites" / f"{name}.parquet", folder / "sites")
    record = {"schema_version": 1, "sites": {name: {} for name in SITES}}
    (folder / "cohort.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    coordinator = make_coordinator(tmp_path_factory.mktemp("deployed"))
    coordinator.call("start", "--background")
    try:
        yield coordinator
    finally:
        coordinator.call("stop")


@pytest.fixture(scope="module")
def sites(coordinator: Coordinator, cohort: Path, tiny_bolt: Path) -> Iterator[dict[str, Site]]:
    sites = {}
    bundle = coordinator.folder / "fedvitals.fab"
    command = [sys.executable, "-m", "server", "bundle", "--out", str(bundle)]
    subprocess.run(command, env=coordinator.environment, check=True, capture_output=True)
    digest = load_backbone(str(tiny_bolt)).digest
    for name in SITES:
        table = cohort / "sites" / f"{name}.parquet"
        sites[name] = make_site(coordinator, name, table, digest)
        public_key = str(coordinator.authority / "issued" / name / "node.pub")
        coordinator.call("sites", "add", name, public_key)
        approved = sites[name].command("approve", str(bundle), "--yes", "--policy")
        subprocess.run(
            [*approved, str(sites[name].policy)],
            env=sites[name].environment,
            check=True,
            capture_output=True,
        )
        sites[name].start()
    try:
        yield sites
    finally:
        for site in sites.values():
            site.stop()


@pytest.fixture
def config(tiny_bolt: Path, cohort: Path, tmp_path: Path) -> RunConfig:
    return RunConfig(
        backbone=str(tiny_bolt),
        out=str(tmp_path / "run"),
        rounds=3,
        lora=LoraConfig(rank=2),
        windows=WindowConfig(context=24),
        train=TrainConfig(steps=3, batch=16),
        federation=FederationConfig(min_sites=2, wait_s=120.0, round_timeout_s=120.0),
    )


def start_run(coordinator: Coordinator, config: RunConfig) -> subprocess.Popen[str]:
    pairs = [
        part
        for key, value in config.flat().items()
        if value != RunConfig().flat()[key]
        for part in ("-c", f"{key}={value}")
    ]
    return subprocess.Popen(
        coordinator.command("run", *pairs),
        env=coordinator.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(run: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = run.communicate(timeout=300)
    return run.returncode, said


def digests(folder: Path) -> list[Any]:
    return [entry.get("adapter_digest") for entry in read_rounds(folder)]


def test_a_killed_superlink_comes_back_and_the_adapter_is_the_simulations(
    coordinator: Coordinator, sites: dict[str, Site], config: RunConfig, cohort: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = Path(config.out)
    run = start_run(coordinator, config)
    wait_for("round 1 has ended", lambda: len(read_rounds(folder)) == 1)
    before = running(coordinator.state)
    kill([before["superlink"]])
    code, said = finish(run)
    assert code == 0, said
    assert "finished:completed" in said

    after = running(coordinator.state)
    assert after["superlink"] != before["superlink"]
    assert after["superexec"] == before["superexec"]
    assert "the superlink ended with -9; starting it anew" in services_log(coordinator)

    simulated = RunConfig.parse(
        {**config.flat(), "data": str(cohort), "out": str(tmp_path / "sim")}
    )
    federate(simulated)
    assert digests(folder) == digests(tmp_path / "sim")
    assert len(digests(folder)) == 4
    name = "adapter/adapter_model.safetensors"
    assert (folder / name).read_bytes() == (tmp_path / "sim" / name).read_bytes()
    assert load_peft_folder(folder / "adapter").is_finite()


def test_the_app_runs_from_the_bundle_alone(sites: dict[str, Site]) -> None:
    # After the run above: the libraries were loaded before, our own modules were not.
    for site in sites.values():
        apps = list((Path(site.environment["FLWR_HOME"]) / "apps").iterdir())
        assert len(apps) == 1
        assert (apps[0] / "client" / "app.py").is_file()


def test_a_lost_app_and_a_lost_node_cost_their_rounds_and_no_more(
    coordinator: Coordinator, sites: dict[str, Site], config: RunConfig
) -> None:
    folder = Path(config.out)
    one = FederationConfig(min_sites=1, wait_s=60.0, round_timeout_s=15.0)
    run = start_run(coordinator, RunConfig.parse({**config.flat(), **flat(one), "rounds": 5}))
    # A run begins with its quorum; the other site joins the next round.
    wait_for("both sites take part", lambda: usable(folder)[-1:] == [set(SITES)])
    kill(sites["micu"].next_app())
    wait_for("micu is missed", lambda: usable(folder)[-1:] == [{"ccu"}])
    sites["ccu"].next_app()
    sites["ccu"].kill("node")
    code, said = finish(run)
    assert code == 0, said
    assert {"micu"} in usable(folder), "ccu is missed while its node starts"
    assert usable(folder)[-1] == set(SITES), "both are back"


def test_a_run_that_fails_fails_here_too(coordinator: Coordinator, config: RunConfig) -> None:
    wrong = RunConfig.parse({**config.flat(), "windows.horizon": 13})
    code, said = finish(start_run(coordinator, wrong))
    assert code == 10
    assert "ended as finished:failed" in said
    assert "at most 12 steps" in said.splitlines()[-1]


def test_who_is_not_registered_or_trusts_another_authority_stays_outside(
    coordinator: Coordinator, sites: dict[str, Site], tmp_path: Path
) -> None:
    stranger = make_site(coordinator, "stranger", sites["ccu"].table)
    fooled = make_site(coordinator, "fooled", sites["ccu"].table)
    script("authority.sh", tmp_path / "other")
    revoked = make_site(coordinator, "revoked", sites["ccu"].table)
    public_key = str(coordinator.authority / "issued" / "revoked" / "node.pub")
    coordinator.call("sites", "add", "revoked", public_key)
    assert "never taken again" in coordinator.call("sites", "remove", "revoked")
    assert "was revoked" in coordinator.call("sites", "add", "again", public_key, code=2)
    shutil.copy(tmp_path / "other" / "ca.crt", fooled.keys / "other.crt")
    fooled.configure("digest", ca="private/other.crt")
    started = {
        site.name: subprocess.Popen(
            site.command("node", "--config", str(site.config)),
            env=site.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for site in (stranger, fooled, revoked)
    }
    said = {name: process.communicate(timeout=90)[0] for name, process in started.items()}
    assert {name: process.returncode for name, process in started.items()} == dict.fromkeys(
        started, 22
    ), said
    for text in said.values():
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, text
    assert "key" in said["stranger"]
    assert "key" in said["revoked"]
    assert "certificate" in said["fooled"]


def test_status_tells_services_sites_and_runs(
    coordinator: Coordinator, sites: dict[str, Site]
) -> None:
    status = json.loads(coordinator.call("status", "--json"))
    assert set(status["services"]) == {"services", "superlink", "superexec"}
    assert set(status["sites"]) == set(SITES)
    assert "finished:completed" in status["runs"].values()
    assert "run already" in coordinator.call("start", code=2)


def services_log(coordinator: Coordinator) -> str:
    return (coordinator.state / "logs" / "services.log").read_text()


def usable(folder: Path) -> list[set[str]]:
    """The sites whose replies were used, a round each."""
    return [
        {name for name, site in entry["sites"].items() if "refused" not in site}
        for entry in read_rounds(folder)
    ]


def flat(federation: FederationConfig) -> dict[str, Any]:
    return {
        key: value
        for key, value in RunConfig(federation=federation).flat().items()
        if key.startswith("federation.")
    }
