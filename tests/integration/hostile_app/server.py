"""The coordinator's side: asks for each attempt once and writes down what came."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp

from common.adapter.adapter import Adapter
from common.adapter.serialization.message import encode, record_of
from common.config.run_config import RunConfig
from tests.integration.hostile_app import CASES

WAIT_S = 120.0

app = ServerApp()


def tiny_adapter(layer: str = "q") -> Adapter:
    """An adapter of one layer, with the settings of a run of defaults."""
    lora, backbone = RunConfig().lora, RunConfig().backbone
    name = f"base_model.model.{layer}.lora"
    tensors = {
        f"{name}_A.weight": np.full((lora.rank, 3), 0.25, dtype=np.float32),
        f"{name}_B.weight": np.full((4, lora.rank), 0.5, dtype=np.float32),
    }
    return Adapter(tensors, lora.rank, lora.alpha, "q", backbone, "0" * 64, lora.dropout)


def cases_of(context: Context) -> list[str]:
    """Return the attempts of a run, one a round: no other record passes the gate."""
    return str(context.run_config["data"] or ",".join(CASES)).split(",")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Ask the one node that there is."""
    cases = cases_of(context)
    deadline = time.monotonic() + WAIT_S
    while not (nodes := list(grid.get_node_ids())) and time.monotonic() < deadline:
        time.sleep(0.5)
    outcome = {case: _ask(grid, nodes[0], number) for number, case in enumerate(cases, start=1)}
    Path(str(context.run_config["out"])).write_text(json.dumps(outcome))


def _ask(grid: Grid, node: int, number: int) -> dict[str, Any]:
    content = RecordDict(
        {
            "adapter": record_of(encode(tiny_adapter())),
            "round": ConfigRecord({"site": "hosp1", "round": number, "run": "ab12"}),
        }
    )
    order = Message(content, dst_node_id=node, message_type=MessageType.TRAIN)
    replies = list(grid.send_and_receive([order], timeout=WAIT_S))
    if not replies:
        return {"reply": None}
    (reply,) = replies
    if reply.has_error():
        return {"code": reply.error.code, "reason": reply.error.reason}
    return {
        "records": sorted(reply.content),
        "metrics": dict(reply.content.metric_records["report"]),
        "round": dict(reply.content.config_records["round"]),
    }
