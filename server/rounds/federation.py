"""The federation's rounds: send, gather, admit, average, and an end that is clear whatever happens.

Flower's stock strategies report success when every client died, crash on a wrong tensor and wait
for ever for a lost node; here every wait is bounded, every reply is checked, and each round ends
with the state of the run on the disk.

Which sites a round asks: all of them, or a share drawn anew from the run's seed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from common.adapter.adapter import Adapter
from common.adapter.residual import fold_residual
from common.adapter.serialization.message import decode
from common.config.run_config import RunConfig
from common.errors import FederationError
from common.seeds import derive_seed
from server.aggregation.rules import aggregate
from server.aggregation.server_optimizers import ServerOptimizer
from server.rounds.checkpoint import Checkpoint, save_checkpoint
from server.rounds.dispatch import Question, SiteExchange
from server.rounds.enrollment import look_again
from server.rounds.model_selection import Best
from server.rounds.reply_store import Spool
from server.rounds.reply_validation import SiteReply, refuse_outliers
from server.rounds.round_record import log_round, round_record, validation_wql
from server.rounds.site_registry import Membership
from server.runs.run_folder import RunFolder, read_rounds


def sample_sites(
    sites: Sequence[str], fraction: float, least: int, seed: int, round_number: int
) -> list[str]:
    """Draw the sites of a round, without replacement.

    Args:
        sites: the members.
        fraction: the share to draw, rounded up.
        least: never fewer than these, as long as there are so many.
        seed: the run's seed; with the round it decides the draw.
        round_number: the round.

    Returns:
        The drawn sites, sorted; all of them where the fraction is 1.
    """
    count = min(len(sites), max(least, math.ceil(fraction * len(sites))))
    random = np.random.default_rng(derive_seed(seed, "sites", round_number))
    drawn = random.permutation(len(sites))[:count]
    names = sorted(sites)
    return sorted(names[index] for index in drawn)


# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")

SPOOL_FOLDER = "checkpoint/replies"
"""Where a round's admitted adapters lie until it ends, below the run folder."""

JOIN_WAIT_S = 60.0
"""The longest that a round waits for what a site that has just come says of itself."""


@dataclass
class Federation:
    """One run of the federation.

    Attributes:
        grid: Flower's way to the nodes.
        config: the run's settings.
        membership: the sites that take part.
        folder: where the run is written.
        run: the run's id, which its continuations share.
        state: where the run stands.
    """

    grid: Grid
    config: RunConfig
    membership: Membership
    folder: RunFolder
    run: str
    state: Checkpoint
    optimizer: ServerOptimizer | None = field(init=False)
    earlier: dict[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        if self.config.aggregation.optimizer == "none":
            self.optimizer = None
        else:
            self.optimizer = ServerOptimizer(self.config.aggregation)
            if self.state.optimizer:
                self.optimizer.load(self.state.optimizer)
        self.earlier = _sent_before(read_rounds(self.folder.path))

    def conduct(self) -> Best:
        """Conduct all rounds that are left.

        Returns:
            The best adapter by the sites' validation; where no site validates, the last.

        Raises:
            FederationError: where too few sites reply, or the folder cannot be written.
        """
        for number in range(self.state.round + 1, self.config.rounds + 1):
            if self._is_stale():
                return self.state.selection.best
            look_again(self.grid, self.membership, JOIN_WAIT_S)
            self._round(number)
        if not self._is_stale():
            self._validate_last()
        return self.state.selection.best

    def _round(self, number: int) -> None:
        """One round: send, gather replies, admit, average, keep the state."""
        started = time.monotonic()
        with Spool(self.folder.path / SPOOL_FOLDER, self._read) as spool:
            replies, bytes_sent = self._ask(number, spool)
            for site, reply in replies.items():
                if reply.adapter is None:
                    spool.discard(site)
            self._note_validation(number - 1, replies)
            weights = self.membership.weights(list(spool))
            record = self._record(number, replies, bytes_sent, weights)
            if len(spool) < self.config.federation.min_sites:
                self.folder.append_round({**record, "failed": "below the quorum"})
                log_round(record, self.config.rounds)
                raise FederationError(self._quorum_message(number, replies))
            result = aggregate(
                self.config.rule,
                spool,
                weights,
                self.state.adapter,
                self.state.carried,
                self.config.aggregation,
            )
        adapter = result.adapter
        if self.optimizer is not None:
            adapter = self.optimizer.step(self.state.adapter, adapter)
        record |= {
            "adapter_digest": adapter.digest(),
            "adapter_norm": adapter.norm(),
            "seconds": time.monotonic() - started,
        }
        if result.notes:
            record["aggregation"] = dict(result.notes)
        self._keep(number, adapter, result.carried, record)

    def _read(self, data: bytes) -> Adapter:
        """A site's adapter as it lies in the spool; it was admitted before."""
        return decode(data, shared=self.state.adapter if self.config.trained == "b" else None)

    def _keep(
        self, number: int, adapter: Adapter, carried: Adapter | None, record: Mapping[str, Any]
    ) -> None:
        """Write the state first, then the line: a crash between the two loses neither."""
        self.state = replace(
            self.state,
            round=number,
            adapter=adapter,
            carried=carried,
            optimizer=self.optimizer.state() if self.optimizer is not None else {},
            record=record,
        )
        save_checkpoint(self.folder.path, self.config, self.state)
        self.folder.append_round(record)
        for site, entry in record["sites"].items():
            digest = entry.get("adapter_sha256")
            if digest:
                self.earlier[site] = self.earlier.get(site, frozenset()) | {digest}
        log_round(record, self.config.rounds)

    def _validate_last(self) -> None:
        """Validate the last round's adapter, which no further round would have done."""
        number = self.config.rounds + 1
        started = time.monotonic()
        replies, bytes_sent = self._ask(number, None)
        self._note_validation(number - 1, replies)
        record = self._record(number, replies, bytes_sent, {})
        self.folder.append_round({**record, "seconds": time.monotonic() - started})
        log_round(record, self.config.rounds)

    def _ask(self, number: int, spool: Spool | None) -> tuple[dict[str, SiteReply], dict[str, int]]:
        """Ask a round's sites to train, or without a spool for their adapters to validate only."""
        federation = self.config.federation
        sites = self.membership.names()
        if spool is not None:
            sites = sample_sites(
                sites, federation.fraction, federation.min_sites, self.config.seed, number
            )
        question = Question(
            number, sites, self.state.adapter, self.state.carried, spool is not None, self.earlier
        )
        exchange = SiteExchange(self.grid, self.config, self.membership, self.run)
        replies, bytes_sent = exchange.ask(question, spool)
        return refuse_outliers(replies, self.config.aggregation.norm_factor), bytes_sent

    def _note_validation(self, number: int, replies: Mapping[str, SiteReply]) -> None:
        """Take the sites' validation of round `number`'s adapter into account."""
        wql = validation_wql(replies)
        whole = fold_residual(self.state.adapter, self.state.carried)
        self.state.selection.note(number, whole, wql, self.membership.weights(wql))

    def _record(
        self,
        number: int,
        replies: Mapping[str, SiteReply],
        bytes_sent: Mapping[str, int],
        weights: Mapping[str, float],
    ) -> dict[str, Any]:
        return round_record(
            self.config,
            number,
            replies,
            bytes_sent=bytes_sent,
            weights=weights,
            validation_weights=self.membership.weights(validation_wql(replies)),
            best_round=self.state.selection.best.round,
        )

    def _is_stale(self) -> bool:
        stale = self.state.selection.best.stale
        if 0 < self.config.federation.patience <= stale:
            log.info("no better validation for %d rounds; stopping", stale)
            return True
        return False

    def _quorum_message(self, number: int, replies: Mapping[str, SiteReply]) -> str:
        refused = "; ".join(
            f"{site}: {reply.refused}" for site, reply in replies.items() if reply.refused
        )
        return (
            f"round {number} has fewer usable replies than federation.min-sites = "
            f"{self.config.federation.min_sites} ({refused}); mend the sites and resume the run in "
            f"{self.folder.path}"
        )


def _sent_before(rounds: list[dict[str, Any]]) -> dict[str, frozenset[str]]:
    """SHA-256 of the adapters that each site sent in the rounds so far."""
    sent: dict[str, set[str]] = {}
    for record in rounds:
        if "failed" in record:
            continue  # the round is asked again, and may well be answered the same
        for site, entry in record.get("sites", {}).items():
            if "adapter_sha256" in entry:
                sent.setdefault(site, set()).add(entry["adapter_sha256"])
    return {site: frozenset(digests) for site, digests in sent.items()}
