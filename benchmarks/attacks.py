"""Table of the gain of each attack on a site, before the site was guarded and now.

    python benchmarks/attacks.py

"Now" is measured in this run: against the gate with the shipped policy, or by the attack tests of
`tests/attacks`, which are run. "Before" refers to commit 8afdcb1: the adapter's channels were
measured there once, the rest is from the audit of that code. The table is that of
docs/results/attacks.md.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from flwr.app import Error, Message

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # `tests` is no installed package

from client.egress.report_rules import report_capacity_bits
from client.policy.policy import load_policy
from client.policy.run_settings import is_guarded, refused_setting
from client.privacy.accountant import Steps, spent
from client.privacy.budget_filter import BudgetFilter
from client.privacy.run_plan import plan_of
from client.training.clipping import clip_factors, clipped
from common.config.run_config import PrivacyConfig, RunConfig, Value, key_types
from tests.attacks.scenarios.adapter_channels import CHANNELS, REFUSED_BEFORE
from tests.attacks.test_covert_channels import told
from tests.client.egress.gated_site import GatedSite, make_gated_site

REPOSITORY = Path(__file__).resolve().parents[1]
SHIPPED = load_policy(REPOSITORY / "deploy" / "site" / "policy.toml")
BACKBONE = "chronos-bolt-nano"
GUARDED = {key: kind for key, kind in key_types().items() if is_guarded(key)}


@dataclass(frozen=True)
class Row:
    """One attack.

    Attributes:
        kind: target of the attack.
        attack: the attempt.
        before: gain on commit 8afdcb1.
        now: gain in this run.
    """

    kind: str
    attack: str
    before: str
    now: str


def main() -> None:
    """Run all attacks and print the table."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--no-tests", action="store_true", help="leave out tests/attacks")
    tested = iter(()) if parser.parse_args().no_tests else by_tests()
    print("| attacked | by | gained before | gained now |\n|---|---|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        for row in chain(by_numbers(), at_the_gate(Path(folder)), by_the_adapter(), tested):
            print(f"| {row.kind} | {row.attack} | {row.before} | {row.now} |", flush=True)


def by_numbers() -> Iterator[Row]:
    """Yield the attacks on clipping and on the budget."""
    yield Row(
        "one patient's gradient",
        "settings so small that squares vanish (alpha 1e-22, clip norm 1e-30), 80 orders tried",
        "2e5 clip norms",
        f"{largest_part():.6f} clip norms",
    )
    number, epsilon = runs_within_budget(8.0)
    yield Row(
        "the budget of all runs",
        "run after run at epsilon 8, six of them asked for",
        "6 runs, epsilon 25.0",
        f"{number} run, epsilon {epsilon:.1f}" if number == 1 else f"{number} runs, {epsilon:.1f}",
    )


def largest_part() -> float:
    """Return the longest clipped gradient, in clip norms, over 80 orders of magnitude."""
    longest = 0.0
    for exponent in range(-40, 41):
        for clip in (1e-30, 1e-20, 0.05, 1.0, 1e20):
            rows = torch.full((1, 3, 4), 10.0**exponent, dtype=torch.float64)
            gradient = rows.to(torch.float32) if abs(exponent) < 38 else rows
            factors = clip_factors({"B": gradient}, clip)
            part = clipped(gradient, factors).double().flatten() / clip
            longest = max(longest, math.sqrt(math.fsum(float(x) ** 2 for x in part)))
    return longest


def runs_within_budget(epsilon: float) -> tuple[int, float]:
    """Return the number of runs at an epsilon that the shipped budget admits, and their total."""
    plan = plan_of(RunConfig(privacy=PrivacyConfig(epsilon=epsilon)))
    run = plan.remaining(1)
    budget = BudgetFilter(SHIPPED.budget_epsilon, SHIPPED.budget_delta)
    history: list[Steps] = []
    while len(history) < 6 and budget.admits(history, run):
        history.append(run)
    return len(history), spent(history, SHIPPED.budget_delta).prv


def at_the_gate(folder: Path) -> Iterator[Row]:
    """Yield attacks of a coordinator or an app on a site whose policy requires privacy."""
    site = make_gated_site(folder, Path(BACKBONE), folder / "none", {})
    joins = {answer(site, windows) for windows in WINDOWS}
    yield Row(
        "who has a window of a length",
        f"joins with {len(WINDOWS)} kinds of windows",
        "1 bit a question, without end",
        bits(len(joins)),
    )
    errors = {failure(site, code) for code in (7, 8, 1001, 1002, 0, 99)}
    yield Row(
        "an error's kind", "an app fails in the way that it likes", "2 bits a message",
        bits(len(errors)),
    )  # fmt: skip
    private = {name: of for name, of in SHIPPED.metrics.items() if name in site.site.allow}
    yield Row(
        "the numbers of a report, under privacy",
        "an app writes what it likes into each",
        "751 bits a round",
        f"{report_capacity_bits(private):.0f} bits",
    )
    yield Row(
        "the same without privacy", "within ranges and decimals", "751 bits a round",
        f"{report_capacity_bits(SHIPPED.metrics):.0f} bits",
    )  # fmt: skip
    accepted, tried = settings_accepted()
    yield Row(
        "what is computed from the patients",
        f"{tried} settings beyond the policy's values",
        f"{tried} accepted",
        f"{accepted} accepted",
    )


WINDOWS: tuple[Mapping[str, Any], ...] = (
    *({"windows.context": length} for length in (12, 24, 36, 48)),
    *({"windows.stride": length} for length in (1, 6, 48)),
    {"windows.horizon": 1, "windows.min-context": 1},
    {"windows.vitals": "heart_rate,mbp"},
)


def answer(site: GatedSite, windows: Mapping[str, Any]) -> str:
    """Return a site's whole reply to the join request of a run with such windows."""
    site.use(**windows)
    said = site.gate._send_node_join(site.request(site.ask("query")), {"kind": "query"})
    return str({name: dict(record) for name, record in said.content.config_records.items()})


def failure(site: GatedSite, code: int) -> str:
    """Return the error that the site sends instead of the app's own."""
    question = site.ask("train")
    sent = site.passed(question, Message(Error(code=code, reason="x"), reply_to=question))
    return f"{sent.error.code} {sent.error.reason}"


def settings_accepted() -> tuple[int, int]:
    """Return how many settings beyond the policy's values are accepted, and how many are tried."""
    flat = RunConfig().flat()
    # -1 is the only noise seed that a site accepts.
    tried: dict[str, Value] = {key: "other" if kind is str else -1 for key, kind in GUARDED.items()}
    tried["privacy.noise-seed"] = 7
    changed = ({**flat, key: value} for key, value in tried.items())
    accepted = sum(not refused_setting(settings, SHIPPED.settings) for settings in changed)
    return accepted, len(tried)


def by_the_adapter() -> Iterator[Row]:
    """Yield the channels beside the numbers of an adapter of 2,688 numbers in nine layers."""
    for name, channel in CHANNELS.items():
        before = 0 if name in REFUSED_BEFORE else channel.bits
        yield Row("the adapter's message", name, counted(before), bits(len(told(channel))))


TESTED: tuple[tuple[str, str, str, str], ...] = (
    ("the code that runs", "another bundle, an edited copy, a planted folder, a process that stays",
     "all of them run", "test_running_code.py test_bundle_identity.py test_app_secrets.py"),
    ("the approval", "an app whose study has ended, one person twice, another bundle's signature",
     "all answers leave", "test_approvals.py"),
    ("app and node", "a man in the middle, a client without the certificate",
     "the task and the bundle", "test_local_api.py"),
    ("a site's place in a run", "one node as eight sites, another's name, no credential",
     "8 of 8 places, a run", "test_coordinator.py"),
    ("the evidence", "log and anchor written anew, a policy others may write, a file of 246 bytes",
     "not found; accepted; hangs", "test_evidence.py"),
)  # fmt: skip


def by_tests() -> Iterator[Row]:
    """Yield the attacks that need processes, keys and files, by running the attack tests."""
    for kind, attack, before, names in TESTED:
        files = [REPOSITORY / "tests" / "attacks" / name for name in names.split()]
        yield Row(kind, attack, before, verdict(files))


def verdict(files: Sequence[Path]) -> str:
    """Run files of attack tests; the gain is nothing if all of them pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode or passed is None:
        return f"**fails**: {done.stdout.splitlines()[-1]}"
    names = ", ".join(f"`{file.name}`" for file in files)
    return f"nothing ({passed[1]} tests of {names})"


def bits(answers: int) -> str:
    """Return the bits that this many different replies can carry."""
    return counted(round(math.log2(answers))) if answers else "nothing leaves"


def counted(number: int) -> str:
    """Return a number of bits in words."""
    return "1 bit" if number == 1 else f"{number:,} bits"


if __name__ == "__main__":
    main()
