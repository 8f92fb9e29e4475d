"""A tiny run, and ways to change its sites' replies, for the tests of whole runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client.app.client_app import app as client_app
from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_peft_folder
from common.config.run_config import (
    FederationConfig,
    LoraConfig,
    RunConfig,
    TrainConfig,
    WindowConfig,
)
from server.runs.run_folder import read_rounds
from server.server_app import app as server_app
from simulation.engines import inprocess
from simulation.run import federate

Change = Callable[[Message, Message], None]
"""Changes a site's reply in place: `change(order, reply)`; what it raises, the site raises."""

VANISHED = "vanished"


def tiny_run(backbone: Path, cohort: Path, out: Path, **settings: Any) -> RunConfig:
    """Return the settings of three rounds over three small sites, a second or two in all."""
    config = RunConfig(
        backbone=str(backbone),
        data=str(cohort),
        out=str(out),
        rounds=3,
        lora=LoraConfig(rank=2),
        windows=WindowConfig(context=24),
        train=TrainConfig(steps=3, batch=16, learning_rate=1e-2),
        federation=FederationConfig(min_sites=2, wait_s=5.0, round_timeout_s=60.0),
    )
    return with_settings(config, settings) if settings else config


def with_settings(config: RunConfig, settings: Mapping[str, Any]) -> RunConfig:
    """Return a run's settings with some changed, by their flat keys."""
    return RunConfig.parse({**config.flat(), **settings})


def changed_app(change: Change) -> ClientApp:
    """Return the sites' app with something done to each reply to a round's order."""
    changed = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if "round" in message.content.config_records:
            change(message, reply)
        return reply

    changed.train()(handle)
    changed.evaluate()(handle)
    changed.query()(handle)
    return changed


class VanishedError(Exception):
    """Raised by a `Change` where the site is to give no reply at all."""


class LossyGrid(inprocess.InProcessGrid):
    """Loses the reply of a site that vanished, as happens to one that is cut off."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Give the next reply that is not lost."""
        ids = list(message_ids)
        while replies := list(super().pull_messages(ids)):
            if not (replies[0].has_error() and VANISHED in str(replies[0].error.reason)):
                return replies
        return []


def run_changed(
    config: RunConfig, change: Change, own: Sequence[Mapping[str, Any]] | None = None
) -> None:
    """Run in this process over three sites whose replies are changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inprocess, "InProcessGrid", LossyGrid)
        app = changed_app(change)
        inprocess.run_in_process(server_app, app, config.flat(), nodes=3, own=own)


def ordered(message: Message) -> tuple[str, int]:
    """Return site and round of an order."""
    order = message.content.config_records["round"]
    return str(order["site"]), int(str(order["round"]))


def rounds_of(config: RunConfig) -> list[dict[str, Any]]:
    """Return the lines of the run's rounds.jsonl."""
    return read_rounds(Path(config.out))


def released(config: RunConfig) -> Adapter:
    """Return the adapter that the run released."""
    return load_peft_folder(Path(config.out) / "adapter")


def elsewhere(config: RunConfig, name: str) -> RunConfig:
    """Return the same run in a folder of another name."""
    return config.replace(out=str(Path(config.out).with_name(name)))


class SharedRuns:
    """Whole runs that several tests compare with; each is run once.

    Args:
        folder: where their folders are created.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[str, RunConfig] = {}

    def whole(
        self, config: RunConfig, own: Mapping[str, Mapping[str, Any]] | None = None
    ) -> RunConfig:
        """Return the settings of a run that has ended: those given, in another folder."""
        key = repr((config.replace(out="").flat(), own))
        if key not in self._runs:
            other = config.replace(out=str(self._folder / f"whole-{len(self._runs)}"))
            federate(other, own=own)
            self._runs[key] = other
        return self._runs[key]
