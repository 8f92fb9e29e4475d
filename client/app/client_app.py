"""The ClientApp: Flower's messages in and out; what a site does lives in `client.app.local_round`.

A run asks a node three things: `query`, which sites it answers for and how much they hold; `train`,
one round; `evaluate`, the validation of the last adapter. Every answer about training comes as one
message, since in a deployment each message costs a site the start of a process.

How long each part of a message's work took, for the site's own log; none of it is sent.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from flwr.app import (
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp

from client.app.dataset import SiteData, declared_patients, load_site, site_tables
from client.app.local_round import RoundOrder, shared_adapter, site_backbone, take_part
from client.app.node_config import NodeSettings, read_node_settings
from client.privacy.allowlist import parse_allow, release
from client.privacy.budget_session import (
    Limit,
    PrivacySession,
    check_without_privacy,
    open_session,
)
from common.adapter.serialization.message import from_record, record_of
from common.config.run_config import RunConfig
from common.errors import FedvitalsError, PrivacyError


class Phases:
    """Seconds by phase, in the order in which they came.

    The first, `start`, is what has passed since the process began: in a deployment, where each
    message has a process of its own, that is its start, its imports and fetching the message.
    """

    def __init__(self) -> None:
        self.seconds = {"start": time.time() - psutil.Process().create_time()}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began

    def text(self, more: Mapping[str, float]) -> str:
        """Return all phases, and others that were measured elsewhere, as one line."""
        return ", ".join(f"{name} {s:.2f} s" for name, s in {**self.seconds, **more}.items())


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
    config, node = _prepare(context)
    adapted = site_backbone(config, node)
    records: dict[str, Any] = {}
    for site in site_tables(node, config):
        data = load_site(node, config, site, config.windows)
        records[f"site.{site}"] = ConfigRecord(
            {
                **_counts(data, config, node),
                "rank": adapted.adapter().rank,
                "source": data.info.source,
                "rule": data.info.cohort_rule,
                "step-minutes": data.info.step_minutes,
                "backbone-digest": adapted.digest,
                "outside": ", ".join(sorted(parse_allow(node.allow)) if config.privacy.on else ()),
            }
        )
    records["node"] = ConfigRecord({"nodes": node.nodes})
    return Message(RecordDict(records), reply_to=message)


def _counts(data: SiteData, config: RunConfig, node: NodeSettings) -> dict[str, Any]:
    """Say whether a site can train, and on how much.

    Under privacy a constant that the site declares decides it, and nothing is counted: an answer
    that depended on the windows would tell, for any `windows.*`, whether some stay is that long.
    """
    if config.privacy.on:
        return {"usable": declared_patients(node, data) > 0}
    return {
        "patients": len(data.train.patient_ids),
        "windows": len(data.train),
        "validation-windows": len(data.validation),
        "usable": len(data.train) > 0,
    }


@app.train()
def train(message: Message, context: Context) -> Message:
    """Validate the received adapter, train it, and reply with the site's own."""
    return _round(message, context, train=True)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Validate the received adapter and train nothing."""
    return _round(message, context, train=False)


def _round(message: Message, context: Context, *, train: bool) -> Message:
    phases = Phases()
    config, node = _prepare(context)
    with phases.phase("model"):
        order = _order(message, config, node, train)
    with phases.phase("table"):
        data = load_site(node, config, order.site, config.windows)
    session = _session(order, data, config, node)
    adapter, report = take_part(order, data, config, node, session)
    if not node.simulated:
        log.info("round %d: %s", order.number, phases.text(report.seconds))
    told = release(report.numbers(), node.allow, private=session is not None, site=order.site)
    numbers = told.numbers
    if session is not None:
        # Its accountant's name is text; the server tells it from the two figures of epsilon.
        numbers |= {
            f"privacy.{name}": value
            for name, value in session.facts().items()
            if not isinstance(value, str)
        }
    records: dict[str, Any] = {
        "report": MetricRecord(dict(numbers)),
        "round": ConfigRecord({"site": order.site, "round": order.number, "run": order.run}),
    }
    if adapter is not None:
        records["adapter"] = record_of(adapter)
    return Message(RecordDict(records), reply_to=message)


def _order(message: Message, config: RunConfig, node: NodeSettings, train: bool) -> RoundOrder:
    asked = message.content.config_records["round"]
    arrays = message.content.array_records
    shared = shared_adapter(config, site_backbone(config, node))
    return RoundOrder(
        site=str(asked["site"]),
        number=int(str(asked["round"])),
        run=str(asked["run"]),
        train=train,
        received=from_record(arrays["adapter"], shared=shared),
        carried=from_record(arrays["carried"]) if "carried" in arrays else None,
    )


def _session(
    order: RoundOrder, data: SiteData, config: RunConfig, node: NodeSettings
) -> PrivacySession | None:
    """The budget of this round; None where the run promises no privacy, and the site wants none."""
    limit = Limit(node.epsilon_limit, node.epsilon_limit_delta) if node.epsilon_limit else None
    if not config.privacy.on:
        check_without_privacy(order.site, limit)
        return None
    if config.privacy.noise_seed >= 0 and not node.simulated:
        raise PrivacyError(
            "privacy.noise-seed would let the server take the noise off again; this site trains "
            "with noise of its own only: leave it at -1"
        )
    declared_patients(node, data)  # refuses, before anything is spent
    return open_session(
        node.state_path,
        config.privacy,
        site=order.site,
        table_digest=data.digest,
        run=order.run,
        # The last adapter's validation comes after the rounds, and trains nothing.
        round_number=min(order.number, config.rounds),
        rounds=config.rounds,
        round_steps=config.private_steps,
        limit=limit,
    )


def _prepare(context: Context) -> tuple[RunConfig, NodeSettings]:
    config = RunConfig.parse(context.run_config)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    return config, read_node_settings(context.node_config, config, str(context.run_id))
