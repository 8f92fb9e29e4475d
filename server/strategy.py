"""The federation's rounds: send, gather, admit, average, and an end that is clear whatever happens.

Flower's stock strategies report success when every client died, crash on a wrong tensor and wait
for ever for a lost node; here every wait is bounded and every reply is checked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flwr.app import ConfigRecord, MessageType, RecordDict
from flwr.serverapp import Grid

from common.adapter import Adapter
from common.config import RunConfig
from common.errors import FederationError
from common.wire import to_record
from server.admission import SiteReply, admit_reply
from server.aggregation.fedavg import fedavg
from server.exchange import exchange
from server.run_folder import CHECKPOINT_FOLDER, RunFolder
from server.sites import Membership
from server.validation import Best, Selection

# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")


@dataclass
class Federation:
    """One run of the federation.

    Attributes:
        grid: Flower's way to the nodes.
        config: the run's settings.
        membership: the sites that take part.
        adapter: the global adapter; at first the fresh one, at last the last round's.
        folder: where the run is written.
    """

    grid: Grid
    config: RunConfig
    membership: Membership
    adapter: Adapter
    folder: RunFolder
    selection: Selection = field(init=False)

    def __post_init__(self) -> None:
        self.selection = Selection(Best(self.adapter))

    def run(self) -> Best:
        """Conduct all rounds.

        Returns:
            The best adapter by the sites' validation; where no site validates, the last.

        Raises:
            FederationError: where too few sites reply, or the folder cannot be written.
        """
        for number in range(1, self.config.rounds + 1):
            self._round(number)
            stale = self.selection.best.stale
            if 0 < self.config.federation.patience <= stale:
                log.info("no better validation for %d rounds; stopping", stale)
                return self.selection.best
        self._validate_last()
        return self.selection.best

    def _round(self, number: int) -> None:
        """One round: send, gather replies, admit, average, record."""
        started = time.monotonic()
        replies, bytes_sent = self._ask_sites(number, MessageType.TRAIN)
        self._note_validation(number - 1, replies)
        adapters = {reply.site: reply.adapter for reply in replies if reply.adapter is not None}
        weights = self._weights(adapters)
        record = self._record(number, replies, weights, bytes_sent)
        if len(adapters) < self.config.federation.min_sites:
            self.folder.append_round({**record, "failed": "below the quorum"})
            raise FederationError(self._quorum_message(number, replies))
        self.adapter = replace(self.adapter, tensors=fedavg(adapters, weights))
        record |= {
            "adapter_digest": self.adapter.digest(),
            "adapter_norm": self.adapter.norm(),
            "seconds": time.monotonic() - started,
        }
        self.folder.save_adapter(f"{CHECKPOINT_FOLDER}/latest", self.adapter)
        self.folder.append_round(record)
        _log_round(record, self.config.rounds)

    def _validate_last(self) -> None:
        """Validate the last round's adapter, which no further round would have done."""
        number = self.config.rounds + 1
        started = time.monotonic()
        replies, bytes_sent = self._ask_sites(number, MessageType.EVALUATE)
        self._note_validation(number - 1, replies)
        record = self._record(number, replies, {}, bytes_sent)
        self.folder.append_round({**record, "seconds": time.monotonic() - started})
        _log_round(record, self.config.rounds)

    def _ask_sites(self, number: int, kind: str) -> tuple[list[SiteReply], int]:
        """Send the global adapter to every site; return each one's reply and bytes sent to each."""
        record = to_record(self.adapter, self.config.wire.dtype)
        sites = self.membership.names()
        contents = [
            (self.membership.members[site].node_id, _order(site, number, record)) for site in sites
        ]
        timeout = self.config.federation.round_timeout_s
        replies = {
            site: SiteReply(site, refused=f"no reply within {timeout:g} s") for site in sites
        }
        for index, message in exchange(self.grid, contents, kind, timeout):
            member = self.membership.members[sites[index]]
            trained = kind == MessageType.TRAIN
            replies[member.name] = admit_reply(message, member, self.adapter, number, trained)
        size = sum(len(array.data) for array in record.values())
        return [replies[site] for site in sites], size

    def _weights(self, sites: Mapping[str, Any]) -> dict[str, float]:
        by_patients = self.config.federation.weights == "patients"
        members = self.membership.members
        return {site: float(members[site].patients) if by_patients else 1.0 for site in sites}

    def _note_validation(self, number: int, replies: list[SiteReply]) -> None:
        """Take the sites' validation of round `number`'s adapter into account."""
        wql = _validation_wql(replies)
        if self.selection.note(number, self.adapter, wql, self._weights(wql)):
            self.folder.save_adapter(f"{CHECKPOINT_FOLDER}/best", self.adapter)

    def _record(
        self, number: int, replies: list[SiteReply], weights: Mapping[str, float], bytes_sent: int
    ) -> dict[str, Any]:
        """What rounds.jsonl keeps of a round."""
        sites: dict[str, Any] = {}
        for reply in replies:
            entry: dict[str, Any] = {
                "bytes_sent": bytes_sent,
                "bytes_received": reply.bytes_received,
            }
            if reply.report is not None:
                entry |= vars(reply.report)
            if reply.refused:
                entry["refused"] = reply.refused
                log.warning("round %d: site %s refused: %s", number, reply.site, reply.refused)
            if reply.site in weights:
                entry["weight"] = weights[reply.site] / sum(weights.values())
            sites[reply.site] = entry
        wql = _validation_wql(replies)
        shares = self._weights(wql)
        mean = sum(shares[site] * wql[site] for site in wql) / sum(shares.values()) if wql else None
        last = number > self.config.rounds
        return {
            "round": number,
            "trained": not last,
            "learning_rate": 0.0 if last else self.config.learning_rate(number),
            "validated_round": number - 1,
            "validation_wql": mean,
            "best_round": self.selection.best.round,
            "sites": sites,
        }

    def _quorum_message(self, number: int, replies: list[SiteReply]) -> str:
        refused = "; ".join(f"{reply.site}: {reply.refused}" for reply in replies if reply.refused)
        message = (
            f"round {number} has fewer usable replies than federation.min-sites = "
            f"{self.config.federation.min_sites} ({refused}); mend the sites and run again into "
            "another folder"
        )
        if number == 1:
            return message
        latest = self.folder.path / CHECKPOINT_FOLDER / "latest"
        return f"{message}; the adapter of round {number - 1} is in {latest}"


def _order(site: str, number: int, adapter: Any) -> RecordDict:
    return RecordDict({"adapter": adapter, "round": ConfigRecord({"site": site, "round": number})})


def _validation_wql(replies: list[SiteReply]) -> dict[str, float]:
    """Validation WQL by site, of those that validated; also where a site's adapter is refused."""
    return {
        reply.site: reply.report.validation["wql"]
        for reply in replies
        if reply.report is not None and "wql" in reply.report.validation
    }


def _log_round(record: Mapping[str, Any], rounds: int) -> None:
    wql = record["validation_wql"]
    replied = sum("refused" not in site for site in record["sites"].values())
    log.info(
        "round %d of %d: %d of %d sites, validation WQL of round %d's adapter %s",
        min(record["round"], rounds),
        rounds,
        replied,
        len(record["sites"]),
        record["validated_round"],
        "unknown" if wql is None else f"{wql:.4f}",
    )
