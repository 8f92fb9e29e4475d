"""Rules for the test of each command of the documents: run small here, or by another test.

A command that matches `RUN` is run, made small by `SMALLER`. A command that needs services, a
service manager, a container engine or root is in `ELSEWHERE`, with the test that runs it. A
document may contain no other command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from tests.docs.documents import Command
from tests.samples.approvals import UNTIL

RUN = (
    r"(/opt/fedvitals/bin/)?python (-P )?-m (simulation|client|server) ",
    r"python benchmarks/",
    r"deploy/certs/\w+\.sh ",
    r"(cp|mv|mkdir|cd|sed|install|chmod|sha256sum|ls|cat|echo|head) ",
    r"([a-z_]+=('[^']*'|\S*) *)+$",
    r"#!python",
)
"""Patterns of the commands that are run. Python blocks begin with `#!python` here."""

ONCE = r"python -m simulation (attack|backbones) ?"
"""Commands that neither read nor write files: repeated in another document, they are not run."""

MACHINE = r"(?<![\w.$/}-])/(etc|srv|var|data|opt)/"
"""Folders of a machine, in commands and in deploy/; replaced by folders of the test."""

_TRAIN = r"^(python -m simulation run (?!.*--resume).*)"

SMALLER: tuple[tuple[str, str], ...] = (
    (r"^\S*/opt/fedvitals/bin/python( -P)?", "python"),
    (r"/path/to/mimic-iii", "mimic-iii"),
    (r"/path/to/eicu", "eicu"),
    (r"\S*/var/lib/fedvitals/runs/RUN", "run"),
    (r"FEDVITALS_HOME/runs/<run id>", "run"),
    # A federation: one round of one step with a tiny backbone, on one vital sign: the report has
    # figures of each.
    (
        _TRAIN,
        r"\1 --backbone {backbone} --rounds 1 -c train.steps=1 -c windows.stride=24"
        r" -c windows.vitals=heart_rate",
    ),
    # The tiny backbone forecasts fewer steps than three hours have at 5 minutes.
    (r"^(python -m simulation run .*task=paper.*)", r"\1 -c windows.horizon=6"),
    (r'(?<=load_forecaster\("run")', ', backbone="{backbone}"'),
    (r"^(python -m server evaluate .*)", r"\1 --backbone {backbone}"),
    (r"^(python -m simulation prepare synthetic .*?) --stays \d+", r"\1"),
    (r"(prepare synthetic)", r"\1 --stays 70"),
    (r"^(python -m simulation pretrain .*)", r"\1 --steps 2"),
    (r"^(python benchmarks/families\.py .*)", r"\1 --rounds 1 {backbone}"),
    (r"^(python -m server bundle) .*--app \S+.*", r"\1 --out fedvitals.fab"),
    (r"^(python -m server bundle .*)", r"\1 --app {app}"),
    (r"^(python -m client personalise .*)", r"\1 --backbone {backbone} --passes 1"),
    # The id of a patient is a hash, other in each site table.
    (
        r"^(python -m client forecast .*?)( --patient \S+)?( --at \S+)?( --plot \S+)?$",
        r"\1 --backbone {backbone}",
    ),
    # The tests of tests/attacks run by themselves.
    (r"^(python benchmarks/attacks\.py)", r"\1 --no-tests"),
    # 32 processor seconds in place of an hour; the least number of trials that it takes.
    (r"^(python -m simulation attack membership)", r"\1 --trials 20 --epsilons 1"),
    # The first operator has the name of the services' user; here no service was started.
    (r"(operators remove) fedvitals", r"\1 a.meyer"),
    # Only root can change the owner of a file.
    (r"^(install .*?)--owner \d+ ", r"\1"),
    # The command asks for confirmation.
    (r"^(python -m client approve .*)", r"\1 --yes"),
    # The dates in the documents will pass.
    (r"(?<=--until )\d{4}-\d{2}-\d{2}", UNTIL),
)
"""Regular expressions and their replacements, applied in this order."""

SAID: Mapping[str, str] = {
    r"(XXXX-){7}XXXX": r"^fingerprint (\S+)$",
}
"""Placeholders, and the pattern of their value in the output of an earlier command."""


@dataclass(frozen=True)
class Elsewhere:
    """Commands that another test runs, or whose files it checks.

    Attributes:
        pattern: the commands.
        test: the file of the test.
        words: parts of the commands that the test contains.
        within: prefix of the paths of the documents.
    """

    pattern: str
    test: str
    words: tuple[str, ...]
    within: str = ""

    def covers(self, command: Command) -> bool:
        here = command.document.startswith(self.within)
        return here and re.match(self.pattern, command.text) is not None


_DRY_RUN = "tests/client/dry_run/test_dry_run.py"
_FILES = "tests/deploy/test_documents.py"
_DEPLOYED = "tests/integration/setup/deployed.py"
_DEPLOYMENT = "tests/integration/test_deployment.py"
_PREFLIGHT = "tests/client/preflight/test_site.py"
_FLOWER = "tests/integration/test_flower.py"

ELSEWHERE = (
    # Continuous integration is these commands.
    Elsewhere(
        r"make (setup|lint|test|test-fast|lint test|help)$", ".ci/run", ("make lint", "test")
    ),
    Elsewhere(
        r"(MIMIC3_DIR=\S+ )?make demo$",
        "tests/docs/test_commands.py",
        ('"make", "--dry-run", "demo"',),
    ),
    # It asks the registry.
    Elsewhere(r"make lock$", "tests/deploy/test_lock.py", ("deploy.lock",)),
    # A SuperLink, SuperExec, nodes and apps in processes of their own.
    Elsewhere(r"flwr run \.", _FLOWER, ('"run", ".", "--stream", "-c"',)),
    Elsewhere(r"python -m server start", "tests/integration/conftest.py", ('"start"',)),
    Elsewhere(r"python -m server stop( |$)", "tests/integration/conftest.py", ('"stop"',)),
    Elsewhere(r"python -m server status", _DEPLOYED, ('"status"',)),
    Elsewhere(r"python -m server run --attach ", _DEPLOYMENT, ('"run", "--attach"',)),
    Elsewhere(r"python -m server statistics ", _DEPLOYMENT, ('"statistics", "--out"',)),
    Elsewhere(r"python -m server run ", _DEPLOYED, ('self.command("run"',)),
    Elsewhere(r"python -m client (node|app) (?!.*--dry-run)", _DEPLOYED, ('"node", "app"',)),
    Elsewhere(
        r"(/opt/fedvitals/bin/)?python (-P )?-m client preflight ", _PREFLIGHT, ('"preflight"',)
    ),
    Elsewhere(
        r"python -m client ledger ",
        "tests/client/cli/test_ledger.py",
        ('run(app, ["ledger", *arguments])', '"--limit"'),
    ),
    Elsewhere(
        r"python -m client audit anchor .* --to https://",
        "tests/client/cli/test_audit.py",
        ('audit("anchor", *config, *to, "--ca"',),
    ),
    # The published checkpoint is not here; the test makes one of its layout.
    Elsewhere(
        r"python -m client convert lag-llama ",
        "tests/common/backbones/lag_llama/test_convert.py",
        ('run(app, ["convert", "lag-llama", str(checkpoint)])',),
    ),
    Elsewhere(r"python -m client node .*--dry-run", _DRY_RUN, ('"--dry-run"',)),
    Elsewhere(r"python -m server stop-run ", _DEPLOYED, ('"stop-run"',)),
    # The scripts, each with its refusals. In docs/ they are run here.
    *(
        Elsewhere(rf"deploy/certs/{name}\.sh ", test, (f"{name}.sh",), "deploy/")
        for name, test in (
            ("authority", "tests/deploy/test_certs.py"),
            ("request", _DEPLOYED),
            ("approve", _DEPLOYED),
            ("verify", "tests/deploy/test_certs.py"),
            ("revoke", "tests/deploy/test_certs.py"),
            ("rotate", "tests/deploy/test_certs.py"),
            ("local-api", "tests/deploy/test_certs.py"),
        )
    ),
    Elsewhere(r"python -m server sites add ", _DEPLOYED, ('"sites", "add"',), "deploy/"),
    Elsewhere(r"python -m server sites remove ", _DEPLOYMENT, ('"sites", "remove"',), "deploy/"),
    # Cells of several runs; their tests give them tiny ones.
    *(
        Elsewhere(rf"python -m simulation {name}\b", f"tests/simulation/{test}", (words,))
        for name, test, words in (
            ("compare", "cli/test_experiments.py", 'experiment_command("compare"'),
            ("sweep", "cli/test_experiments.py", 'experiment_command("sweep"'),
            ("cost", "experiments/studies/test_cost.py", '"cost"'),
            (
                "reproduce",
                "experiments/studies/test_reproduce.py",
                'experiment_command("reproduce"',
            ),
        )
    ),
    # No model hub here; name and revision are the catalog's.
    Elsewhere(
        r"HF_HOME=hub hf download ",
        "common/backbones/catalog.py",
        ("amazon/chronos-bolt-small", "772f3d25d38aec6d914c8949dab4462e2d46f5d8"),
    ),
    # What the lock files name is not downloaded for a test.
    Elsewhere(
        r"/opt/fedvitals/bin/pip install ", "tests/deploy/test_lock.py", ("requirements.lock",)
    ),
    # No container engine and no Kubernetes here; their files are checked by tests/deploy.
    Elsewhere(r"docker (build|pull|image) ", "tests/deploy/test_dockerfiles.py", ("Dockerfile",)),
    Elsewhere(r"docker run ", _FILES, ("fedvitals-site:0.1.0",)),
    Elsewhere(r"(cd \S+ && )?docker compose ", "tests/deploy/test_compose.py", ("compose.yaml",)),
    Elsewhere(r"helm ", "tests/deploy/test_helm.py", ('"helm"',)),
    Elsewhere(r"kubectl ", "tests/deploy/test_helm.py", ("Secret",)),
    # No root and no service manager here; the units are checked, and that each named file exists.
    Elsewhere(r"systemctl ", "tests/deploy/test_units.py", ("systemd",)),
    Elsewhere(r"systemd-run .* client node .*--dry-run", _DRY_RUN, ('"--dry-run"',)),
    Elsewhere(r"(systemd-run|nft) ", "tests/deploy/test_units.py", ("IPAddressAllow",)),
    Elsewhere(
        r"(useradd|chown|chmod|install|cp|sed|cd|echo|tar|for|curl|[a-z]+=|python3\.11 -m venv) ?",
        _FILES,
        ("test_every_file_that_a_command_names_exists",),
        "deploy/",
    ),
)
