"""The ClientApp: Flower's messages in and out; what a site does lives in `client.round`.

A run asks a node three things: `query`, which sites it answers for and how much they hold; `train`,
one round; `evaluate`, the validation of the last adapter. Every answer about training comes as one
message, since in a deployment each message costs a site the start of a process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from flwr.app import (
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    MetricRecordValues,
    RecordDict,
)
from flwr.clientapp import ClientApp

from client.round import RoundReport, take_part
from client.site_data import load_site, site_tables
from client.training import choose_device
from common.backbones.lora import adapted_backbone
from common.config import RunConfig
from common.errors import FedvitalsError
from common.wire import from_record, to_record

CLIENT_FAILED = 1001
"""The error code of a reply whose site failed; the reason names the exception's type alone."""

log = logging.getLogger("flwr.fedvitals.client")


def conceal_failure(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """Answer an exception with its type alone; the text, which may name patients, stays here."""
    try:
        return call_next(message, context)
    except Exception as error:
        if isinstance(error, FedvitalsError):
            log.error("the round failed at this site: %s", error)
        else:
            log.exception("the round failed at this site")
        reason = f"client failed: {type(error).__name__}"
        return Message(Error(code=CLIENT_FAILED, reason=reason), reply_to=message)


app = ClientApp(mods=[conceal_failure])


@app.query()
def join(message: Message, context: Context) -> Message:
    """Say which sites this node answers for and what each brings."""
    config = _prepare(context)
    adapted = adapted_backbone(config.backbone, config.lora, choose_device(config.train.device))
    records: dict[str, Any] = {}
    for site in site_tables(context.node_config, config):
        data = load_site(context.node_config, config, site, config.windows)
        records[f"site.{site}"] = ConfigRecord(
            {
                "patients": len(data.train.patient_ids),
                "windows": len(data.train),
                "validation-windows": len(data.validation),
                "source": data.info.source,
                "rule": data.info.cohort_rule,
                "step-minutes": data.info.step_minutes,
                "backbone-digest": adapted.digest,
            }
        )
    records["node"] = ConfigRecord({"nodes": int(context.node_config.get("num-partitions", 0))})
    return Message(RecordDict(records), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Validate the received adapter, train it, and reply with the site's own."""
    return _round(message, context, train=True)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Validate the received adapter and train nothing."""
    return _round(message, context, train=False)


def _round(message: Message, context: Context, *, train: bool) -> Message:
    config = _prepare(context)
    order = message.content.config_records["round"]
    site, number = str(order["site"]), int(str(order["round"]))
    data = load_site(context.node_config, config, site, config.windows)
    received = from_record(message.content.array_records["adapter"])
    adapter, report = take_part(site, data, received, config, round_number=number, train=train)
    records: dict[str, Any] = {
        "report": _metrics(report),
        "round": ConfigRecord({"site": site, "round": number}),
    }
    if train:
        records["adapter"] = to_record(adapter, config.wire.dtype)
    return Message(RecordDict(records), reply_to=message)


def _metrics(report: RoundReport) -> MetricRecord:
    values: dict[str, MetricRecordValues] = {
        "patients": report.patients,
        "windows": report.windows,
        "steps": report.steps,
        "loss": report.loss,
        **{f"validation.{name}": value for name, value in report.validation.items()},
        **{f"seconds.{name}": value for name, value in report.seconds.items()},
    }
    return MetricRecord(values)


def _prepare(context: Context) -> RunConfig:
    config = RunConfig.parse(context.run_config)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    return config
