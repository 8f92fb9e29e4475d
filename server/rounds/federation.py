"""The rounds of a run: enroll, sample, dispatch, validate, aggregate, checkpoint.

Begin with `Federation.run`, then `_run_round`. Unlike Flower's stock strategies, every wait is
bounded, every reply is validated before use, too few replies end the run as failed, and each round
ends with the run's state on disk.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from common.adapter.adapter import Adapter
from common.adapter.residual import fold_residual
from common.adapter.serialization.message import decode
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.errors import FederationError
from server.aggregation.rules import Aggregate, aggregate
from server.aggregation.server_optimizers import ServerOptimizer
from server.rounds.checkpoint import Checkpoint, save_checkpoint
from server.rounds.dispatch import request_training, request_validation
from server.rounds.enrollment import enroll_new_sites
from server.rounds.model_selection import BestAdapter
from server.rounds.reply_store import ReplyStore
from server.rounds.reply_validation import SiteReply, refuse_outliers
from server.rounds.round_record import add_result, log_round, round_record, validation_wql
from server.rounds.round_request import RoundRequest, build_requests
from server.rounds.site_registry import SiteRegistry
from server.runs.run_folder import RunFolder, how_to_resume, read_rounds

# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")

REPLIES_FOLDER = "checkpoint/replies"
"""Folder of a round's validated adapters, below the run folder; removed when the round ends."""

JOIN_WAIT_S = 60.0
"""The longest that a round waits for the join replies of new nodes."""


class Federation:
    """One run of the federation.

    Args:
        grid: Flower's connection to the nodes.
        config: the run's settings.
        registry: the sites that joined.
        folder: the run folder.
        run_id: the run's id, which its resumptions share.
        state: the state after the last complete round.

    Attributes:
        state: likewise, updated by each round.
    """

    def __init__(
        self,
        grid: Grid,
        config: RunConfig,
        registry: SiteRegistry,
        folder: RunFolder,
        run_id: str,
        state: Checkpoint,
    ) -> None:
        self.grid = grid
        self.config = config
        self.registry = registry
        self.folder = folder
        self.run_id = run_id
        self.state = state
        self._optimizer = _restored_optimizer(config, state)
        self._past_digests: dict[str, set[str]] = {}
        for record in read_rounds(folder.path):
            self._remember_digests(record)

    def run(self) -> BestAdapter:
        """Run all remaining rounds.

        Returns:
            The best adapter by the sites' validation; the last one where no site validates.

        Raises:
            FederationError: too few sites reply, or the folder cannot be written.
        """
        for number in range(self.state.round + 1, self.config.rounds + 1):
            if self._patience_exhausted():
                return self.state.selection.best
            enroll_new_sites(self.grid, self.registry, JOIN_WAIT_S)
            self._run_round(number)
        if not self._patience_exhausted():
            self._validate_last_adapter()
        return self.state.selection.best

    def _run_round(self, number: int) -> None:
        """Run one round, from the sampling of its sites to its line in the log."""
        started = time.monotonic()
        requests = self._build_requests(number, self._sample_sites(number), train=True)
        with ReplyStore(self.folder.path / REPLIES_FOLDER, self._decode_stored) as store:
            replies = request_training(self.grid, requests, self.config, store)
            replies = refuse_outliers(replies, self.config.aggregation.norm_factor)
            store.retain([site for site, reply in replies.items() if reply.accepted])
            self._select_best(number - 1, replies)
            weights = self.registry.weights(list(store))
            record = self._round_record(number, requests, replies, weights)
            self._require_quorum(len(store), replies, record)
            result = self._aggregate(store, weights)
        adapter = self._optimizer_step(result.adapter)
        record = add_result(record, adapter, result.notes, time.monotonic() - started)
        # The state first, then the line: a crash in between loses neither.
        self._save_state(number, adapter, result.residual, record)
        self.folder.append_round(record)
        self._remember_digests(record)
        log_round(record, self.config.rounds)

    def _validate_last_adapter(self) -> None:
        """Have the sites validate the last round's adapter, as no further round does so."""
        started = time.monotonic()
        number = self.config.rounds + 1
        requests = self._build_requests(number, self.registry.names(), train=False)
        replies = request_validation(self.grid, requests, self.config)
        self._select_best(number - 1, replies)
        record = self._round_record(number, requests, replies, {})
        self.folder.append_round({**record, "seconds": time.monotonic() - started})
        log_round(record, self.config.rounds)

    def _patience_exhausted(self) -> bool:
        """True after `federation.patience` rounds without a better validation; 0 = unlimited."""
        stale = self.state.selection.best.stale
        if 0 < self.config.federation.patience <= stale:
            log.info("no better validation for %d rounds; stopping", stale)
            return True
        return False

    def _sample_sites(self, number: int) -> list[str]:
        federation = self.config.federation
        sites = self.registry.names()
        return sample_sites(
            sites, federation.fraction, federation.min_sites, self.config.seed, number
        )

    def _build_requests(
        self, number: int, sites: Sequence[str], *, train: bool
    ) -> list[RoundRequest]:
        return build_requests(
            self.config,
            [self.registry.members[site] for site in sites],
            run_id=self.run_id,
            round_number=number,
            train=train,
            adapter=self.state.adapter,
            residual=self.state.residual,
            past_digests=self._past_digests,
        )

    def _decode_stored(self, data: bytes) -> Adapter:
        """Decode a stored adapter; it was validated on arrival."""
        return decode(data, shared=self.state.adapter if self.config.trained == "b" else None)

    def _select_best(self, number: int, replies: Mapping[str, SiteReply]) -> None:
        """Update the best adapter with the sites' validation of round `number`'s adapter."""
        wql = validation_wql(replies)
        adapter = fold_residual(self.state.adapter, self.state.residual)
        self.state.selection.update(number, adapter, wql, self.registry.weights(wql))

    def _round_record(
        self,
        number: int,
        requests: Sequence[RoundRequest],
        replies: Mapping[str, SiteReply],
        weights: Mapping[str, float],
    ) -> dict[str, Any]:
        return round_record(
            self.config,
            number,
            replies,
            bytes_sent={request.member.name: request.bytes_sent for request in requests},
            weights=weights,
            validation_weights=self.registry.weights(validation_wql(replies)),
            best_round=self.state.selection.best.round,
        )

    def _require_quorum(
        self, accepted: int, replies: Mapping[str, SiteReply], record: Mapping[str, Any]
    ) -> None:
        """End the run where fewer adapters than `federation.min-sites` were accepted.

        The failed round is recorded; the state on disk stays that of the round before.
        """
        least = self.config.federation.min_sites
        if accepted >= least:
            return
        self.folder.append_round({**record, "failed": "below the quorum"})
        log_round(record, self.config.rounds)
        refused = "; ".join(
            f"{site}: {reply.refused}" for site, reply in replies.items() if reply.refused
        )
        raise FederationError(
            f"round {record['round']} has fewer usable replies than federation.min-sites = {least} "
            f"({refused}); fix the sites and resume the run: "
            f"{how_to_resume(self.folder.path, self.folder.simulated)}"
        )

    def _aggregate(self, store: ReplyStore, weights: Mapping[str, float]) -> Aggregate:
        return aggregate(
            self.config.rule,
            store,
            weights,
            self.state.adapter,
            self.state.residual,
            self.config.aggregation,
        )

    def _optimizer_step(self, averaged: Adapter) -> Adapter:
        if self._optimizer is None:
            return averaged
        return self._optimizer.step(self.state.adapter, averaged)

    def _save_state(
        self, number: int, adapter: Adapter, residual: Adapter | None, record: Mapping[str, Any]
    ) -> None:
        self.state = replace(
            self.state,
            round=number,
            adapter=adapter,
            residual=residual,
            optimizer=self._optimizer.state() if self._optimizer is not None else {},
            record=record,
        )
        save_checkpoint(self.folder.path, self.config, self.state)

    def _remember_digests(self, record: Mapping[str, Any]) -> None:
        """Add the adapters of a round to the past digests, against which replays are detected."""
        if "failed" in record:
            return  # the round is repeated, and a site may send the same adapter again
        for site, entry in record.get("sites", {}).items():
            if "adapter_sha256" in entry:
                self._past_digests.setdefault(site, set()).add(entry["adapter_sha256"])


def _restored_optimizer(config: RunConfig, state: Checkpoint) -> ServerOptimizer | None:
    """The server optimizer as of the checkpoint; None where aggregation.optimizer is none."""
    if config.aggregation.optimizer == "none":
        return None
    optimizer = ServerOptimizer(config.aggregation)
    if state.optimizer:
        optimizer.load(state.optimizer)
    return optimizer


def sample_sites(
    sites: Sequence[str], fraction: float, least: int, seed: int, round_number: int
) -> list[str]:
    """Sample the sites of a round, without replacement.

    Args:
        sites: the names of the sites that joined.
        fraction: the share to sample, rounded up.
        least: the smallest sample, as far as there are so many sites.
        seed: the run's seed; with the round number it determines the sample.
        round_number: the round.

    Returns:
        The sampled sites, sorted; all of them where the fraction is 1.
    """
    count = min(len(sites), max(least, math.ceil(fraction * len(sites))))
    random = np.random.default_rng(derive_seed(seed, "sites", round_number))
    drawn = random.permutation(len(sites))[:count]
    names = sorted(sites)
    return sorted(names[index] for index in drawn)
