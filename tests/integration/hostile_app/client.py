"""The side that runs at the site: one attempt a message, as the server names it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from common.adapter.serialization.message import decode, encode, record_of
from tests.integration.hostile_app import MARKER
from tests.integration.hostile_app.server import cases_of, tiny_adapter

# Importing this module is all that it takes to have run.
if "HOSTILE_STARTED" in os.environ:
    Path(os.environ["HOSTILE_STARTED"]).touch()

app = ClientApp()


def raw_table() -> np.ndarray[Any, Any]:
    """Four patients' heart rates, of a pattern that the test looks for."""
    return np.full((4, 9), 81.4375, dtype=np.float32)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer as the case of the round says."""
    number = int(str(message.content.config_records["round"]["round"]))
    case = cases_of(context)[number - 1]
    if case == "exception":
        raise ValueError(f"patient {MARKER} has no heart rate")
    if case == "error text":
        return Message(Error(code=1001, reason=f"patient {MARKER}"), reply_to=message)
    order = dict(message.content.config_records["round"])
    received = message.content.array_records["adapter"]["adapter"].data
    metrics: dict[str, int | float | list[int] | list[float]] = {"loss": 0.123456789}
    records: dict[str, Any] = {"adapter": record_of(encode(decode(received)))}
    if case == "raw table":
        records["vitals"] = ArrayRecord({"table": Array(raw_table())})
    elif case == "renamed tensor":
        records["adapter"] = record_of(encode(tiny_adapter(layer=MARKER)))
    elif case == "extra array":
        records["adapter"]["table"] = Array(raw_table())
    elif case == "unknown metric":
        metrics[f"age.{MARKER}"] = 77.0
    elif case == "long string":
        order["note"] = MARKER * 100
    elif case == "question repeated":
        records["question"] = ConfigRecord({"note": MARKER})
    records["report"] = MetricRecord(metrics)
    records["round"] = ConfigRecord(order)
    return Message(RecordDict(records), reply_to=message)
