"""Record of a round: its line in rounds.jsonl and in the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from common.adapter.adapter import Adapter
from common.config.run_config import RunConfig
from server.aggregation.rules import Notes
from server.rounds.reply_validation import SiteReply
from server.runs.follow import round_line

# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.rounds")


def validation_wql(replies: Mapping[str, SiteReply]) -> dict[str, float]:
    """Return the validation WQL of the sites that validated, also where the adapter is refused."""
    return {
        site: reply.report.validation["wql"]
        for site, reply in replies.items()
        if reply.report is not None and "wql" in reply.report.validation
    }


def round_record(
    config: RunConfig,
    number: int,
    replies: Mapping[str, SiteReply],
    *,
    bytes_sent: Mapping[str, int],
    weights: Mapping[str, float],
    validation_weights: Mapping[str, float],
    best_round: int,
) -> dict[str, Any]:
    """Return a round's record as known from its replies, before the aggregation.

    Args:
        config: the run's settings.
        number: the round; for the last validation, one more than there are rounds.
        replies: of the round's sites.
        bytes_sent: bytes of the adapter sent to each site.
        weights: of the sites whose adapters are aggregated.
        validation_weights: of the sites that validated.
        best_round: the best round so far.
    """
    wql = validation_wql(replies)
    total = sum(validation_weights[site] for site in wql)
    last = number > config.rounds
    return {
        "round": number,
        "trained": not last,
        "learning_rate": 0.0 if last else config.learning_rate(number),
        "validated_round": number - 1,
        "validation_wql": sum(validation_weights[site] * wql[site] for site in wql) / total
        if wql
        else None,
        "best_round": best_round,
        "sites": {
            site: _site_entry(reply, bytes_sent[site], weights) for site, reply in replies.items()
        },
    }


def _site_entry(reply: SiteReply, bytes_sent: int, weights: Mapping[str, float]) -> dict[str, Any]:
    entry: dict[str, Any] = {"bytes_sent": bytes_sent, "bytes_received": reply.bytes_received}
    if reply.report is not None:
        entry |= reply.report.record()
    if reply.digest:
        entry |= {"adapter_sha256": reply.digest, "update_norm": reply.update_norm}
    if reply.refused:
        entry["refused"] = reply.refused
    if reply.site in weights:
        entry["weight"] = weights[reply.site] / sum(weights.values())
    return entry


def add_result(
    record: Mapping[str, Any], adapter: Adapter, notes: Notes, seconds: float
) -> dict[str, Any]:
    """Return a round's record completed by the result of its aggregation.

    Args:
        record: as `round_record` returns it.
        adapter: the new global adapter.
        notes: of the aggregation rule.
        seconds: wall time of the round.
    """
    result = {
        **record,
        "adapter_digest": adapter.digest(),
        "adapter_norm": adapter.norm(),
        "seconds": seconds,
    }
    return result | {"aggregation": dict(notes)} if notes else result


def log_round(record: Mapping[str, Any], rounds: int) -> None:
    """Log the round's line; as a warning where a site is refused."""
    refused = any("refused" in site for site in record["sites"].values())
    log.log(logging.WARNING if refused else logging.INFO, "%s", round_line(record, rounds))
