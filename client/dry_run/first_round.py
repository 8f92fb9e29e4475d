"""The first two requests of a run, built at the site: join, and train round 1.

The first adapter follows from the run's settings and its seed alone, so it is identical, to the
byte, to the one that a coordinator with these settings sends.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace

import torch
from flwr.app import ConfigRecord, Message, MessageType, Metadata, RecordDict

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.message import encode, record_of
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.config.site_rank import rank_refusal
from common.errors import UsageError

DRY_RUN_ID, NODE_ID, COORDINATOR = 1, 2, 1
"""Flower's numbers of the run, the site and the coordinator, which in a real run are random."""


def join_request(config: RunConfig) -> Message:
    """Return the join request that a run begins with."""
    return _message(RecordDict(), MessageType.QUERY, config.federation.wait_s)


def round_request(config: RunConfig, site: str, rank: int) -> Message:
    """Return the request to train round 1, with its adapter.

    Args:
        config: the run's settings.
        site: name of the site.
        rank: rank of the site's adapter; 0 = the run's.

    Raises:
        UsageError: if the run does not allow the rank.
        BackboneError: if the backbone is not available.
    """
    adapter = starting_adapter(config, rank or config.lora.rank)
    # int8 is for uploads only: a site keeps the rounding residual for its next round.
    dtype = "float16" if config.wire.dtype == "int8" else config.wire.dtype
    round_record = ConfigRecord({"site": site, "round": 1, "run": secrets.token_hex(8)})
    adapters = record_of(encode(adapter, dtype, config.trained))
    content = RecordDict({"adapter": adapters, "round": round_record})
    return _message(content, MessageType.TRAIN, config.federation.round_timeout_s)


def starting_adapter(config: RunConfig, rank: int) -> Adapter:
    """Return the adapter that a run starts from, at a site's rank.

    Args:
        config: the run's settings.
        rank: rank of the site's adapter.

    Raises:
        UsageError: if the run does not allow the rank.
        BackboneError: if the backbone is not available.
    """
    if reason := rank_refusal(rank, config):
        raise UsageError(f"the coordinator would refuse this site: {reason}")
    lora = config.lora
    # On the CPU, as at the coordinator: on a GPU the same seed gives other numbers.
    adapted = adapted_backbone(config.backbone, lora, torch.device("cpu"))
    fresh = adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    return fresh if rank == lora.rank else _truncated(fresh, rank)


def _truncated(fresh: Adapter, rank: int) -> Adapter:
    """Return the best approximation of a lower rank: B is zero, so it keeps the first rows of A."""
    tensors = {}
    for module in fresh.modules:
        a, b = fresh.pair(module)  # [r, in], [out, r]
        tensors[tensor_name(module, "A")] = a[:rank].copy()
        tensors[tensor_name(module, "B")] = b[:, :rank].copy()
    alpha = fresh.alpha * rank / fresh.rank
    return replace(fresh, tensors=tensors, rank=rank, alpha=alpha)


def _message(content: RecordDict, kind: str, ttl_s: float) -> Message:
    metadata = Metadata(DRY_RUN_ID, "", COORDINATOR, NODE_ID, "", "", time.time(), ttl_s, kind)
    # Flower builds a received message in this way, but does not declare it.
    message: Message = Message(content=content, metadata=metadata)  # type: ignore[call-overload]
    metadata.__dict__["_message_id"] = message.object_id
    return message
