"""The federation: join, rounds, aggregation, and a run that ends clearly whatever the sites do.

Flower's stock strategies report success when every client died, crash on a wrong tensor and wait
for ever for a lost node; here every wait is bounded and every reply is checked.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from common.adapter import Adapter
from common.config import RunConfig
from common.errors import AdapterError, FederationError
from common.wire import from_record, to_record
from server.admission import MAX_TEXT, RefusedError, Report, check_adapter, check_report
from server.aggregation.fedavg import fedavg
from server.exchange import exchange
from server.run_folder import CHECKPOINT_FOLDER, RunFolder
from server.sites import Membership

# Below Flower's own logger, so that `flwr run --stream` and `flwr log` show it.
log = logging.getLogger("flwr.fedvitals.server")

NODE_POLL_S = 0.5
"""How often the server looks for further nodes while it waits for them."""


@dataclass(frozen=True)
class SiteReply:
    """A site's round, as it was admitted or refused.

    Attributes:
        site: the site's name.
        report: its numbers; None where the reply was refused.
        adapter: its own adapter; None where it was refused or nothing was trained.
        refused: why nothing of it is used; empty where it is.
        bytes_received: bytes of its adapter on the wire.
    """

    site: str
    report: Report | None = None
    adapter: Adapter | None = None
    refused: str = ""
    bytes_received: int = 0


@dataclass
class Best:
    """The best adapter by validation WQL so far, and since how many rounds it stands."""

    adapter: Adapter
    round: int = 0
    wql: float = math.inf
    stale: int = 0


@dataclass
class Federation:
    """One run of the federation.

    Attributes:
        grid: Flower's way to the nodes.
        config: the run's settings.
        adapter: the global adapter; at first the fresh one, at last the last round's.
        folder: where the run is written.
    """

    grid: Grid
    config: RunConfig
    adapter: Adapter
    folder: RunFolder
    membership: Membership = field(init=False)
    best: Best = field(init=False)

    def __post_init__(self) -> None:
        self.membership = Membership(self.adapter.backbone_digest)
        self.best = Best(self.adapter)

    def run(self) -> Best:
        """Conduct all rounds, after `gather`.

        Returns:
            The adapter of the best round by validation WQL; where no site validates, the last.

        Raises:
            FederationError: where too few sites join or reply, or the folder cannot be written.
        """
        for number in range(1, self.config.rounds + 1):
            self._round(number)
            if 0 < self.config.federation.patience <= self.best.stale:
                log.info("no better validation WQL for %d rounds; stopping", self.best.stale)
                return self.best
        self._validate_last()
        return self.best

    def gather(self) -> None:
        """Wait, within bounds, for nodes, and ask each new one which sites it answers for."""
        settings = self.config.federation
        deadline = time.monotonic() + settings.wait_s
        asked: set[int] = set()
        expected = 1
        while True:
            new = sorted(set(self.grid.get_node_ids()) - asked)
            asked |= set(new)
            left = max(deadline - time.monotonic(), 1.0)
            questions = [(node, RecordDict()) for node in new]
            for _, reply in exchange(self.grid, questions, MessageType.QUERY, left):
                expected = max(expected, self._admit_node(reply))
            enough = len(self.membership.members) >= settings.min_sites and len(asked) >= expected
            if enough or time.monotonic() >= deadline:
                break
            time.sleep(NODE_POLL_S)
        for site, why in sorted(self.membership.refused.items()):
            log.warning("site %s does not take part: %s", site, why)
        self.membership.require(settings.min_sites)

    def _admit_node(self, reply: Message) -> int:
        """Admit a node's sites; return how many nodes it says the simulation has."""
        node = reply.metadata.src_node_id
        if reply.has_error():
            self.membership.refused[f"node {node}"] = f"it failed: {_reason(reply)}"
            return 0
        records = reply.content.config_records
        for name, said in records.items():
            if name.startswith("site."):
                self.membership.admit(name.removeprefix("site."), node, dict(said))
        nodes = records["node"]["nodes"] if "node" in records else 0
        return nodes if isinstance(nodes, int) else 0

    def _round(self, number: int) -> None:
        """One round: send, gather replies, admit, average, record."""
        started = time.monotonic()
        replies, bytes_sent = self._ask_sites(number, MessageType.TRAIN)
        self._note_validation(number - 1, replies)
        trained = {reply.site: reply for reply in replies if reply.adapter is not None}
        weights = self._weights(replies)
        record = self._record(number, replies, weights, bytes_sent)
        if len(trained) < self.config.federation.min_sites:
            self.folder.append_round({**record, "failed": "below the quorum"})
            raise FederationError(self._quorum_message(number, replies))
        adapters = {site: reply.adapter for site, reply in trained.items() if reply.adapter}
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
        record = self._record(number, replies, self._weights(replies), bytes_sent)
        self.folder.append_round({**record, "seconds": time.monotonic() - started})
        _log_round(record, self.config.rounds)

    def _ask_sites(self, number: int, kind: str) -> tuple[list[SiteReply], int]:
        """Send the global adapter to every site; return each one's reply and bytes sent to each."""
        record = to_record(self.adapter, self.config.wire.dtype)
        nodes = {name: member.node_id for name, member in self.membership.members.items()}
        contents = [
            (
                nodes[site],
                RecordDict(
                    {"adapter": record, "round": ConfigRecord({"site": site, "round": number})}
                ),
            )
            for site in self.membership.names()
        ]
        timeout = self.config.federation.round_timeout_s
        replies: dict[str, SiteReply] = {}
        for index, message in exchange(self.grid, contents, kind, timeout):
            site = self.membership.names()[index]
            replies[site] = self._admit(site, number, message, trained=kind == MessageType.TRAIN)
        for site in self.membership.names():
            replies.setdefault(site, SiteReply(site, refused=f"no reply within {timeout:g} s"))
        size = sum(len(array.data) for array in record.values())
        return [replies[site] for site in self.membership.names()], size

    def _admit(self, site: str, number: int, message: Message, *, trained: bool) -> SiteReply:
        """Check one reply; what is refused is kept with its reason."""
        if message.has_error():
            return SiteReply(site, refused=f"it failed: {_reason(message)}")
        content = message.content
        size = 0
        try:
            order = content.config_records["round"]
            if (order["site"], order["round"]) != (site, number):
                raise RefusedError("it answers another round or for another site")
            report = check_report(dict(content.metric_records["report"]))
            if not trained:
                return SiteReply(site, report)
            record = content.array_records["adapter"]
            size = sum(len(array.data) for array in record.values())
            adapter = from_record(record)
            check_adapter(adapter, self.adapter, site)
        except (RefusedError, AdapterError) as error:
            return SiteReply(site, refused=str(error), bytes_received=size)
        except KeyError as error:
            return SiteReply(site, refused=f"its reply lacks the record {error}")
        return SiteReply(site, report, adapter, bytes_received=size)

    def _weights(self, replies: Iterable[SiteReply]) -> dict[str, float]:
        by_patients = self.config.federation.weights == "patients"
        return {
            reply.site: float(reply.report.patients) if by_patients else 1.0
            for reply in replies
            if reply.report is not None
        }

    def _note_validation(self, number: int, replies: Iterable[SiteReply]) -> None:
        """Take the sites' validation of round `number`'s adapter into account."""
        wql = self._validation_wql(replies)
        # The fresh adapter, round 0, is a candidate: where training only harms, it is released.
        if wql is not None and wql < self.best.wql:
            self.best = Best(self.adapter, number, wql)
            self.folder.save_adapter(f"{CHECKPOINT_FOLDER}/best", self.adapter)
        elif wql is None and math.isinf(self.best.wql):
            self.best = Best(self.adapter, number)
        else:
            self.best.stale += 1

    def _validation_wql(self, replies: Iterable[SiteReply]) -> float | None:
        """Mean over the sites that validated, weighted as the adapters are."""
        replies = list(replies)
        weights = self._weights(replies)
        scored = [
            (weights[reply.site], reply.report.validation["wql"])
            for reply in replies
            if reply.report is not None and "wql" in reply.report.validation
        ]
        total = sum(weight for weight, _ in scored)
        return sum(weight * wql for weight, wql in scored) / total if scored else None

    def _record(
        self,
        number: int,
        replies: list[SiteReply],
        weights: Mapping[str, float],
        bytes_sent: int,
    ) -> dict[str, Any]:
        """What rounds.jsonl keeps of a round."""
        total = sum(weights.values())
        sites: dict[str, Any] = {}
        for reply in replies:
            entry: dict[str, Any] = {
                "bytes_sent": bytes_sent,
                "bytes_received": reply.bytes_received,
            }
            if reply.report is None:
                entry["refused"] = reply.refused
                log.warning("round %d: site %s refused: %s", number, reply.site, reply.refused)
            else:
                entry |= vars(reply.report) | {"weight": weights[reply.site] / total}
            sites[reply.site] = entry
        last = number > self.config.rounds
        return {
            "round": number,
            "trained": not last,
            "learning_rate": 0.0 if last else self.config.learning_rate(number),
            "validated_round": number - 1,
            "validation_wql": self._validation_wql(replies),
            "best_round": self.best.round,
            "sites": sites,
        }

    def _quorum_message(self, number: int, replies: Iterable[SiteReply]) -> str:
        refused = "; ".join(f"{reply.site}: {reply.refused}" for reply in replies if reply.refused)
        return (
            f"round {number} has fewer usable replies than federation.min-sites = "
            f"{self.config.federation.min_sites} ({refused}); the adapter of the round before "
            f"is in {self.folder.path / CHECKPOINT_FOLDER / 'latest'}"
        )


def _reason(message: Message) -> str:
    return str(message.error.reason)[:MAX_TEXT]


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
