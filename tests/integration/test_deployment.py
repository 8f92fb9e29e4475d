"""Server and sites in processes of their own, with TLS and keys of deploy/certs alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from client.egress.audit.hash_chain import read_entries
from common.adapter.peft_io import load_peft_folder
from common.config.run_config import RunConfig
from common.data.site_table import read_site_table
from server.deployment.supervisor import running
from server.runs.run_folder import read_rounds, read_run_config
from tests.integration.conftest import SITES
from tests.integration.setup.deployed import (
    Coordinator,
    Site,
    admit,
    approve,
    assert_as_simulated,
    make_site,
    usable,
)
from tests.integration.setup.processes import finish, kill, wait_for

pytestmark = pytest.mark.slow


def test_neither_a_killed_superlink_nor_a_stop_and_a_resume_change_a_byte(
    coordinator: Coordinator,
    sites: dict[str, Site],
    deployed_run: RunConfig,
    deployed_cohort: Path,
    tmp_path: Path,
) -> None:
    folder = Path(deployed_run.out)
    longer = deployed_run.replace(rounds=4)
    run = coordinator.start_run(longer)
    wait_for("round 1 has ended", lambda: len(read_rounds(folder)) >= 1)
    before = running(coordinator.state)
    kill([before["superlink"]])
    wait_for("round 2 has ended", lambda: len(read_rounds(folder)) >= 2)
    after = running(coordinator.state)
    assert after["superlink"] != before["superlink"]
    assert after["superexec"] == before["superexec"]
    services_log = (coordinator.state / "logs" / "services.log").read_text()
    assert "the superlink ended with -9; restarting it" in services_log

    # However long it takes to stop, the run does not end by itself before: it waits for a site.
    with sites["micu"].app_paused():
        coordinator.stop_run()
        code, said = finish(run)
    assert code == 10
    assert "finished:stopped" in said
    assert len(read_rounds(folder)) < 4

    code, said = finish(coordinator.start_run(longer))
    assert code == 10
    assert "already holds a run" in said
    assert "-c resume=true" in said
    assert len(said.splitlines()) == 1, "no line of the stopped run, and no site hears of it"

    again = RunConfig.parse({**longer.flat(), "resume": True})
    code, said = finish(coordinator.start_run(again))
    assert code == 0, said
    assert "finished:completed" in said
    resumed = read_run_config(folder)["resumed_after"][0]
    shown = re.findall(r"^(?:resuming after )?round \d|^last validation", said, re.MULTILINE)
    rounds = [f"round {number}" for number in range(resumed + 1, 5)]
    assert shown == [f"resuming after round {resumed}", *rounds, "last validation"], said
    number = re.match(r"run (\d+) started", said)
    assert number
    followed = coordinator.call("run", "--attach", number[1])
    assert f"run {number[1]} finished:completed" in followed
    assert f"written in {folder}" in followed
    logs = [path.read_text() for path in (coordinator.state / "logs").glob("*.log")]
    assert not any("\x1b" in log for log in logs), "codes in a log"
    assert_as_simulated(longer, deployed_cohort, tmp_path / "simulated")
    assert load_peft_folder(folder / "adapter").is_finite()
    # Each message had an unpacking of its own, of which nothing is left.
    for site in sites.values():
        assert not (Path(site.environment["FLWR_HOME"]) / "apps").exists()


def test_a_run_goes_on_without_a_site_whose_policy_refuses_and_without_an_impostor(
    coordinator: Coordinator,
    sites: dict[str, Site],
    deployed_run: RunConfig,
    tiny_cohort: Path,
    tiny_bolt: Path,
) -> None:
    """One site withholds its reply; another node has a registered key and a hospital's name."""
    folder = Path(deployed_run.out)
    table = tiny_cohort / "sites" / "sicu.parquet"
    strict = make_site(coordinator, "strict", table, tiny_bolt)
    admit(coordinator, strict)
    text = strict.policy.read_text()
    assert "loss = 4\n" in text
    strict.policy.write_text(text.replace("loss = 4\n", ""))
    impostor = make_impostor(coordinator, SITES[0], tiny_cohort, tiny_bolt)
    with strict.started(), impostor.started():
        wait_for("all are there", lambda: set(coordinator.status()["sites"].values()) == {"online"})
        code, said = finish(coordinator.start_run(deployed_run.replace(rounds=1)))
        coordinator.call("sites", "remove", "impostor")
        coordinator.call("sites", "remove", "strict")
        log = strict.keys / "node.log"
        wait_for("it is turned away", lambda: "its key is not registered" in log.read_text())
    assert code == 0, said
    assert usable(folder) == [set(SITES)] * 2
    audit = list(read_entries(strict.policy.parent / "state" / "audit.jsonl"))
    joined, first, *_ = [(entry["kind"], entry["decision"], entry["reason"]) for entry in audit]
    assert joined[:2] == ("query", "sent")
    assert first == ("train", "refused", "metric")  # before a budget is reserved

    record = json.loads((folder / "config.json").read_text())
    assert list(record["sites"]) == sorted([*SITES, "strict"])
    assert "its key is registered as 'impostor'" in record["sites_refused"]["impostor"]
    # The run's own record names who started it, and so did the command.
    (operator,) = record["operators"]
    assert f"started by {operator}" in said
    assert operator == (coordinator.folder / "home" / "operator").read_text().split(".")[0]


def make_impostor(coordinator: Coordinator, name: str, cohort: Path, backbone: Path) -> Site:
    """Return a site whose node has a registered key, and that reports another site's name."""
    site = make_site(coordinator, "impostor", cohort / "sites" / f"{name}.parquet", backbone)
    public_key = str(coordinator.authority / "issued" / "impostor" / "node.pub")
    coordinator.call("sites", "add", "impostor", public_key)
    site.name = name
    site.configure(backbone)
    approve(coordinator, site)
    return site


def test_a_run_that_fails_fails_here_too(coordinator: Coordinator, deployed_run: RunConfig) -> None:
    wrong = RunConfig.parse({**deployed_run.flat(), "windows.horizon": 13})
    code, said = finish(coordinator.start_run(wrong))
    assert code == 10
    assert "ended as finished:failed" in said
    assert "at most 12 steps" in said.splitlines()[-1]


def test_statistics_come_from_the_nodes_whose_policy_lets_them(
    coordinator: Coordinator, sites: dict[str, Site], deployed_cohort: Path, tmp_path: Path
) -> None:
    """No app takes part: those of both sites are stopped. The other site's policy says nothing."""
    first, second = SITES
    policy = sites[first].policy
    rules = "\n[statistics]\nleast-count = 5\nper-days = 30\n"
    policy.write_text(policy.read_text() + rules)
    out = tmp_path / "statistics"
    with sites[first].app_paused(), sites[second].app_paused():
        said = coordinator.call("statistics", "--out", str(out), "--wait", "60")
    record = json.loads((out / "statistics.json").read_text())
    counted = read_site_table(deployed_cohort / "sites" / f"{first}.parquet")
    patients = counted.frame["patient_id"].nunique()
    assert record["sites"][first]["patients"] == patients
    assert record["refused"] == {second: "refused by the site's policy: statistics"}
    assert f"{second} has sent no statistics" in said
    assert (out / "statistics.html").is_file()
    audit = list(read_entries(policy.parent / "state" / "audit.jsonl"))
    assert [entry["decision"] for entry in audit[-2:]] == ["reserved", "sent"]
    assert audit[-1]["kind"] == "query"
    earlier = (out / "statistics.json").read_bytes()
    policy.write_text(policy.read_text().replace(rules, ""))
    said = coordinator.call("statistics", "--out", str(out), "--wait", "60", code=10)
    assert "no site has sent statistics" in said
    assert (out / "statistics.json").read_bytes() == earlier


def test_status_tells_services_sites_and_runs(
    coordinator: Coordinator, sites: dict[str, Site]
) -> None:
    told = coordinator.status()
    assert set(told["services"]) == {"services", "superlink", "superexec"}
    assert told["sites"] == dict.fromkeys(SITES, "online")
    assert "finished:completed" in told["runs"].values()
    assert "are running already" in coordinator.call("start", code=2)
