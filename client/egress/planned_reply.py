"""Verdict on a reply that does not exist yet: what the policy says of it, before anything is spent.

The request, the run's settings and the site's own files determine most of a reply: its layers,
ranks, type and size, the names of its numbers, its guarantee. If one of these may not leave, the
app is not started and the budget is not charged. The numbers themselves are checked in the reply
(`client.egress.reply_rules`), together with all of this once more.
"""

from __future__ import annotations

from client.config.site_facts import SiteFacts
from client.egress.adapter_rules import check_allowed_rank, check_planned_adapter
from client.egress.report_rules import planned_numbers
from client.egress.server_request import ServerRequest
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import shown
from common.adapter.serialization.header import Header
from common.backbones.catalog import short_name
from common.config.run_config import RunConfig
from common.errors import UsageError


def check_planned_reply(site: SiteFacts, request: ServerRequest, policy: Policy) -> None:
    """Refuse a request if no honest reply to it may leave.

    Args:
        site: the site's facts.
        request: the request, with the settings that the policy accepts.
        policy: what may leave.

    Raises:
        RefusedError: if the adapter or the report of every reply is refused.
    """
    config = request.config
    if config is None:
        return
    check_allowed_rank(site.rank or config.lora.rank, policy)
    if request.kind == "query":
        return
    _check_numbers(site, config, policy)
    if request.kind == "train" and request.adapter is not None:
        check_planned_adapter(request.adapter, config.wire.dtype, policy)
        _check_own(site, request.adapter, config)


def _check_numbers(site: SiteFacts, config: RunConfig, policy: Policy) -> None:
    """Check that the policy names the numbers that every round of the run reports."""
    for name in planned_numbers(site, config):
        if name not in policy.metrics:
            raise RefusedError(
                "metric", f"{name} is not among the policy's metrics; a round has it"
            )


def _check_own(site: SiteFacts, received: Header, config: RunConfig) -> None:
    """Check that the adapter is the run's, on the site's backbone.

    The reply repeats the settings of the adapter that it answers, but the app writes its own: with
    others it refuses the round, or its reply would be refused.
    """
    digest, metadata = site.backbones.get(config.backbone), received.metadata
    if digest is not None and metadata["backbone_digest"] != digest:
        given = shown(metadata["backbone_digest"][:12])
        raise RefusedError("backbone", f"adapter for {given}, site.toml declares {digest[:12]}")
    try:
        lora = config.lora.at_rank(site.rank or config.lora.rank)
    except UsageError as problem:
        raise RefusedError("adapter", f"at the site's rank: {problem}") from None
    for key, expected in (
        ("rank", str(lora.rank)),
        ("alpha", repr(lora.alpha)),
        ("dropout", repr(lora.dropout)),
        ("trained", config.trained),
        ("backbone", short_name(config.backbone)),
    ):
        if metadata[key] != expected:
            given = shown(metadata[key])
            raise RefusedError("adapter", f"its {key} is {given}, the run's is {expected}")
