"""What a coordinator asks as a run begins, made at the site itself: who are you, and round 1.

The first adapter follows from the run's settings and its seed alone, so that it is, to the byte,
the one that a coordinator with these settings sends.
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
from common.errors import UsageError
from common.seeds import derive_seed

RUN_ID, NODE_ID, COORDINATOR = 1, 2, 1
"""Flower's numbers of the run, the site and its asker; a coordinator draws them at random."""


def join_question(config: RunConfig) -> Message:
    """Return the question that a run begins with: what the site brings."""
    return _message(RecordDict(), MessageType.QUERY, config.federation.wait_s)


def round_question(config: RunConfig, site: str, rank: int) -> Message:
    """Return the order of round 1, with its adapter.

    Args:
        config: the run's settings.
        site: the site that is asked.
        rank: of the site's adapter; 0 = the run's.

    Raises:
        UsageError: where the run allows no such rank.
        BackboneError: where the backbone is not there.
    """
    adapter = starting_adapter(config, rank or config.lora.rank)
    # int8 is for the way up, where a site keeps what was rounded off for its next round.
    dtype = "float16" if config.wire.dtype == "int8" else config.wire.dtype
    order = ConfigRecord({"site": site, "round": 1, "run": secrets.token_hex(8)})
    adapters = record_of(encode(adapter, dtype, config.trained))
    content = RecordDict({"adapter": adapters, "round": order})
    return _message(content, MessageType.TRAIN, config.federation.round_timeout_s)


def starting_adapter(config: RunConfig, rank: int) -> Adapter:
    """Return the adapter that a run starts from, as a site of a rank gets it.

    Args:
        config: the run's settings.
        rank: of the site's adapter.

    Raises:
        UsageError: where the run allows no such rank.
        BackboneError: where the backbone is not there.
    """
    lora = config.lora
    least = lora.min_rank or lora.rank
    if not least <= rank <= lora.rank:
        allowed = f"{least} to {lora.rank}" if least < lora.rank else str(lora.rank)
        raise UsageError(
            f"the site's lora-rank is {rank}, a run with these settings allows {allowed}; "
            "it would be turned away (lora.rank, lora.min-rank)"
        )
    # On the CPU, as the coordinator draws it: on a GPU the same seed gives other numbers.
    adapted = adapted_backbone(config.backbone, lora, torch.device("cpu"))
    fresh = adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    return fresh if rank == lora.rank else _first_rows(fresh, rank)


def _first_rows(fresh: Adapter, rank: int) -> Adapter:
    """The best version of a lower rank: B is still zero, so that all that is kept is rows of A."""
    tensors = {}
    for module in fresh.modules:
        a, b = fresh.pair(module)  # [r, in], [out, r]
        tensors[tensor_name(module, "A")] = a[:rank].copy()
        tensors[tensor_name(module, "B")] = b[:, :rank].copy()
    alpha = fresh.alpha * rank / fresh.rank
    return replace(fresh, tensors=tensors, rank=rank, alpha=alpha)


def _message(content: RecordDict, kind: str, ttl_s: float) -> Message:
    metadata = Metadata(RUN_ID, "", COORDINATOR, NODE_ID, "", "", time.time(), ttl_s, kind)
    # Flower's own way to make a message as it arrives, which it does not declare.
    message: Message = Message(content=content, metadata=metadata)  # type: ignore[call-overload]
    metadata.__dict__["_message_id"] = message.object_id
    return message
