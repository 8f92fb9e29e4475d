"""Hospitals whose tables differ in one patient or in their stays, with a coordinator's requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app.client_app import app as client_app
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import bytes_of, decode, encode, record_of
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.splits import split_of
from simulation.engines.inprocess import RUN_ID, InProcessGrid

PRIVATE = {
    "rounds": 1,
    "lora.rank": 2,
    "train.steps": 1,
    "windows.vitals": "heart_rate",
    "windows.context": 24,
    "windows.stride": 24,
    "privacy.epsilon": 1.0,
    "privacy.learning-rate": 1.0,
    "privacy.clip-norm": 1e-3,
}


@dataclass(frozen=True)
class Hospital:
    """A site with its own table and a declared number of patients."""

    table: Path
    declared: int
    state: Path

    def node(self) -> dict[str, Any]:
        return {
            "data-path": str(self.table),
            "site-id": "site",
            "state-path": str(self.state),
            "patients": self.declared,
        }

    def ask(self, kind: str, config: RunConfig, content: RecordDict | None = None) -> Message:
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = RUN_ID
        grid = InProcessGrid(client_app, config.flat(), nodes=1, own=[self.node()])
        asked = grid.create_message(content or RecordDict(), kind, 1, "1")
        (reply,) = grid.send_and_receive([asked])
        return reply

    def train(self, config: RunConfig, run: str = "run") -> tuple[dict[str, Any], Adapter]:
        """Return the numbers and the adapter of the first round's answer."""
        sent = received(config)
        order = ConfigRecord({"site": "site", "round": 1, "run": run})
        content = RecordDict({"adapter": record_of(encode(sent, "float32", "b")), "round": order})
        reply = self.ask("train", config, content)
        assert not reply.has_error(), reply.error.reason
        answer = decode(bytes_of(reply.content.array_records["adapter"]), shared=sent)
        return dict(reply.content.metric_records["report"]), answer


def received(config: RunConfig) -> Adapter:
    adapted = adapted_backbone(config.backbone, config.lora, torch.device("cpu"))
    return adapted.fresh_adapter(derive_seed(config.seed, "adapter"))


def moved(config: RunConfig, answer: Adapter) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the change of the adapter in a reply, all of its numbers in a row."""
    before = received(config)
    parts = [
        (answer.tensors[name].astype(np.float64) - tensor).ravel()
        for name, tensor in before.tensors.items()
        if name.endswith("lora_B.weight")
    ]
    return np.concatenate(parts)


def hospital(folder: Path, name: str, hours: Sequence[int], declared: int) -> Hospital:
    """Write the table of patients with a stay of so many hours each, all of the training split.

    The same place in `hours` is the same patient with the same heart rate in every table; 0 hours
    is an absent patient.
    """
    ids = [str(number) for number in range(1000) if split_of(str(number)) == "train"]
    rows = []
    for place, length in enumerate(hours):
        random = np.random.default_rng(place)
        rates = np.clip(80 + random.normal(0, 3, 200).cumsum(), 30, 200)[:length]
        rows.append(
            pd.DataFrame(
                {
                    "patient_id": ids[place],
                    "stay_id": f"{ids[place]}0",
                    "step": np.arange(length),
                    "heart_rate": rates,
                }
            )
        )
    path = folder / f"{name}.parquet"
    info = SiteTableInfo("site", "synthetic", "random walks", 60)
    write_site_table(make_site_table(pd.concat(rows), info), path)
    return Hospital(path, declared, folder / f"state-{name}")
