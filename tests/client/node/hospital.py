"""A site without a coordinator, and app bundles for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from flwr.cli.build import build_fab_from_disk

from client.cli import app as commands
from client.config.site_config import SiteConfig, load_site_config
from client.policy.app_bundle import read_bundle
from client.policy.approval_editor import Grant, approve_bundle
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.console import run
from tests.integration.setup.deployed import REPOSITORY, WITHOUT_PRIVACY, declared, replaced
from tests.samples.approvals import STUDY, UNTIL

APP = """from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()
{first}


@app.query()
def join(message: Message, context: Context) -> Message:
    {query}


@app.train()
def train(message: Message, context: Context) -> Message:
    {train}
"""
"""An app of another bundle, under the name of ours; it needs no torch and starts in a second."""

ANSWER = "return Message(RecordDict({}), reply_to=message)"
DEATH = "import os; os._exit(3)"


@dataclass
class Hospital:
    """The site `micu`: the coordinator's address leads nowhere, and there are no keys."""

    folder: Path
    settings: RunConfig

    @property
    def config(self) -> SiteConfig:
        """Its present site.toml."""
        return load_site_config(self.folder / "site.toml")

    def approve(self, bundle: bytes) -> Path:
        """Write a bundle beside the policy and approve it."""
        path = self.folder / "app.fab"
        path.write_bytes(bundle)
        grant = Grant("A. Meyer", STUDY, UNTIL)
        approve_bundle(self.config.site.policy, read_bundle(path), grant, datetime.now(UTC))
        return path

    def command(self, *more: str) -> list[str]:
        """The command line of a dry run with the run's settings, written to `out`.

        Unconfined: it stays in this process. `shut_in` gives one that does not.
        """
        changed = self.settings.flat()
        usual = RunConfig().flat()
        pairs = [
            f"{k}={v}" for k, v in changed.items() if v != usual[k] and k not in ("data", "out")
        ]
        settings = [part for pair in pairs for part in ("-c", pair)]
        node = ["node", "--config", str(self.folder / "site.toml"), "--dry-run"]
        return [*node, "--unconfined", "--out", str(self.folder / "out"), *settings, *more]

    def shut_in(self) -> list[str]:
        """The command line of a dry run whose app is sandboxed."""
        return [part for part in self.command() if part != "--unconfined"]

    def call(self, *more: str) -> int:
        """Make a dry run; return the exit code."""
        return run(commands, self.command(*more))

    @property
    def record(self) -> dict[str, Any]:
        """The dry run's report, from its JSON."""
        read: dict[str, Any] = json.loads((self.folder / "out/what-would-leave.json").read_text())
        return read


def make_hospital(
    folder: Path, table: Path, settings: RunConfig, changes: Mapping[str, str] | None = None
) -> Hospital:
    """Write site.toml and policy.toml as deploy/site has them, with this site's own values.

    Args:
        folder: of both files.
        table: the site table.
        settings: of the run that is tried.
        changes: of the policy: old text and new.
    """
    adapted = adapted_backbone(settings.backbone, settings.lora, torch.device("cpu"))
    own = {"hospital-1": "micu", "/data/site.parquet": str(table), "/var/lib/fedvitals": "state"}
    own["gateway:9443"] = "coordinator.invalid:443"
    own |= declared({settings.backbone: adapted.digest})
    (folder / "site.toml").write_text(replaced("site.toml", own))
    allowed = {
        "texts = []": f'texts = ["synthetic", "random walks", "{adapted.digest}"]',
        "min-patients = 50": "min-patients = 5",
        "amazon/chronos-bolt-small": settings.backbone,
        **WITHOUT_PRIVACY,
        **(changes or {}),
    }
    (folder / "policy.toml").write_text(replaced("policy.toml", allowed))
    return Hospital(folder, settings)


def other_bundle(folder: Path, query: str = ANSWER, train: str = ANSWER, first: str = "") -> bytes:
    """A bundle whose client.app.client_app differs from the installed one.

    Args:
        folder: where it is put together.
        query: what it does when it is asked to join.
        train: what it does when it is asked to train.
        first: what it does when it is imported.
    """
    app = APP.format(query=query, train=train, first=first)
    modules = {
        "client/app/client_app.py": app,
        "common/nothing.py": "",
        "server/server_app.py": "app = None\n",
    }
    for name, source in modules.items():
        module = folder / name
        module.parent.mkdir(parents=True)
        for package in module.relative_to(folder).parents[:-1]:
            (folder / package / "__init__.py").touch()  # or the installed package goes before
        module.write_text(source)
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    return build_fab_from_disk(folder)
