"""The ClientApp: parses Flower's messages, runs `client.app.local_round`, and builds the replies.

A run sends a node three types of message: `query` to join, i.e. its sites and their sizes; `train`,
one round; `evaluate`, the validation of the last adapter. Each is answered by one message with
everything in it, since in a deployment each message costs a site the start of a process.
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
from client.app.local_round import RoundRequest, run_local_round, site_backbone
from client.app.node_config import NodeSettings, read_node_settings
from client.policy.refusal import REFUSED, PublicReason, refusal_text
from client.privacy.allowlist import allowed_numbers, unprotected_outputs
from client.privacy.budget_session import (
    EpsilonLimit,
    PrivacySession,
    check_without_privacy,
    open_session,
)
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import from_record, record_of
from common.backbones.lora import AdaptedBackbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.errors import FedvitalsError, PrivacyError, UsageError

CLIENT_FAILED = 1001
"""Error code of the reply of a failed site; its reason is the exception's type alone."""

log = logging.getLogger("flwr.fedvitals.client")


def conceal_failure(
    message: Message, context: Context, call_next: Callable[[Message, Context], Message]
) -> Message:
    """Reply to an exception with its type alone; its text may name patients and stays here.

    A `PrivacyError` becomes the gate's refusal of the same: a limit, a ledger, or a declaration
    that is missing, and not which.
    """
    try:
        return call_next(message, context)
    except Exception as error:
        if isinstance(error, FedvitalsError):
            log.error("the round failed at this site: %s", error)
        else:
            log.exception("the round failed at this site")
        code, reason = CLIENT_FAILED, f"client failed: {type(error).__name__}"
        if isinstance(error, PrivacyError):
            code, reason = REFUSED, refusal_text(PublicReason.PRIVACY)
        return Message(Error(code=code, reason=reason), reply_to=message)


app = ClientApp(mods=[conceal_failure])


@app.query()
def join(message: Message, context: Context) -> Message:
    """Reply with the node's sites, their sizes and their settings."""
    config, node = _read_settings(context)
    adapted = site_backbone(config, node)
    unprotected = unprotected_outputs(node.allow, private=config.privacy.on)
    records: dict[str, Any] = {}
    for site in site_tables(node, config):
        data = load_site(node, config, site, config.windows)
        records[f"site.{site}"] = ConfigRecord(
            {
                **_counts(data, config, node),
                "rank": adapted.layout.rank,
                "source": data.info.source,
                "rule": data.info.cohort_rule,
                "step-minutes": data.info.step_minutes,
                "backbone-digest": adapted.digest,
                "outside": ", ".join(unprotected),
            }
        )
    records["node"] = ConfigRecord({"nodes": node.nodes})
    return Message(RecordDict(records), reply_to=message)


def _counts(data: SiteData, config: RunConfig, node: NodeSettings) -> dict[str, Any]:
    """A site's sizes, and whether it can train.

    Under privacy the declared number of patients decides it, and nothing is counted: a reply that
    depended on the windows would reveal, for any `windows.*`, whether some stay is that long.
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
    return _reply_to_round(message, context, train=True)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Validate the received adapter without training it."""
    return _reply_to_round(message, context, train=False)


def _reply_to_round(message: Message, context: Context, *, train: bool) -> Message:
    timer = PhaseTimer()
    config, node = _read_settings(context)
    with timer.phase("model"):
        request = _parse_request(message, config, site_backbone(config, node), train)
    with timer.phase("table"):
        data = load_site(node, config, request.site, config.windows)
    session = _open_privacy_session(request, data, config, node)
    encoded, report = run_local_round(request, data, config, node, session)
    if not node.simulated:
        log.info("round %d: %s", request.number, timer.summary(report.seconds))
    numbers = allowed_numbers(report.numbers(), node.allow, private=session is not None)
    if session is not None:
        # Metrics are numbers: the server derives the accountant's name from the two epsilons.
        numbers |= {
            f"privacy.{name}": value
            for name, value in session.facts().items()
            if not isinstance(value, str)
        }
    records: dict[str, Any] = {
        "report": MetricRecord(dict(numbers)),
        "round": ConfigRecord({"site": request.site, "round": request.number, "run": request.run}),
    }
    if encoded is not None:
        records["adapter"] = record_of(encoded)
    return Message(RecordDict(records), reply_to=message)


def _read_settings(context: Context) -> tuple[RunConfig, NodeSettings]:
    config = RunConfig.parse(context.run_config)
    if config.statistics:
        raise UsageError("a run of statistics is answered by the node; no app takes part in it")
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    return config, read_node_settings(context.node_config, config, str(context.run_id))


def _parse_request(
    message: Message, config: RunConfig, adapted: AdaptedBackbone, train: bool
) -> RoundRequest:
    settings = message.content.config_records["round"]
    arrays = message.content.array_records
    shared: Adapter | None = None
    if config.trained == "b":  # all sides draw the same A from the run's seed
        shared = adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    return RoundRequest(
        site=str(settings["site"]),
        number=int(str(settings["round"])),
        run=str(settings["run"]),
        train=train,
        received=from_record(arrays["adapter"], shared=shared),
        residual=from_record(arrays["carried"]) if "carried" in arrays else None,
    )


def _open_privacy_session(
    request: RoundRequest, data: SiteData, config: RunConfig, node: NodeSettings
) -> PrivacySession | None:
    """The budget of this round; None where neither the run nor the site requires privacy."""
    limit = None
    if node.epsilon_limit:
        limit = EpsilonLimit(node.epsilon_limit, node.epsilon_limit_delta)
    if not config.privacy.on:
        check_without_privacy(request.site, limit)
        return None
    if config.privacy.noise_seed >= 0 and not node.simulated:
        raise PrivacyError(
            "privacy.noise-seed would let the server subtract the noise; this site draws its noise "
            "from the operating system only: leave it at -1"
        )
    declared_patients(node, data)  # raises before anything is spent
    return open_session(
        node.state_path,
        config.privacy,
        site=request.site,
        table_digest=data.digest,
        run=request.run,
        # The validation of the last adapter follows the last round and spends nothing.
        round_number=min(request.number, config.rounds),
        rounds=config.rounds,
        round_steps=config.private_steps,
        limit=limit,
    )


class PhaseTimer:
    """Seconds of each phase of a message's work, for the site's own log; none of it is sent.

    The first phase, `start`, is the time since the process began: in a deployment each message has
    a process of its own, and `start` is its start, its imports and fetching the message.
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

    def summary(self, more: Mapping[str, float]) -> str:
        """Return these phases and others, measured elsewhere, as one line."""
        return ", ".join(f"{name} {s:.2f} s" for name, s in {**self.seconds, **more}.items())
