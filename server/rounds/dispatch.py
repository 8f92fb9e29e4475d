"""One exchange of a round: each site its own order, each reply admitted as it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, MessageType, RecordDict
from flwr.serverapp import Grid

from common.adapter.adapter import Adapter
from common.adapter.serialization.message import WireDtype, decode, encode, record_of
from common.config.run_config import RunConfig
from server.aggregation.truncation import truncate
from server.rounds.reply_store import Spool
from server.rounds.reply_validation import Order, SiteReply, admit_reply
from server.rounds.site_registry import Membership
from server.rounds.transport import exchange


@dataclass(frozen=True)
class Question:
    """What a round asks.

    Attributes:
        number: the round.
        sites: the sites that are asked.
        adapter: the global adapter.
        carried: the low-rank part carried beside it, if there is one.
        train: whether the sites train, or validate only.
        earlier: SHA-256 of the adapters that each site sent in earlier rounds.
    """

    number: int
    sites: Sequence[str]
    adapter: Adapter
    carried: Adapter | None
    train: bool
    earlier: Mapping[str, frozenset[str]]


class SiteExchange:
    """Asks the sites of a run.

    Args:
        grid: Flower's way to the nodes.
        config: the run's settings.
        membership: the sites.
        run: the run's id.
    """

    def __init__(self, grid: Grid, config: RunConfig, membership: Membership, run: str) -> None:
        self._grid = grid
        self._config = config
        self._membership = membership
        self._run = run

    def ask(
        self, question: Question, spool: Spool | None
    ) -> tuple[dict[str, SiteReply], dict[str, int]]:
        """Send the orders and admit the replies.

        Args:
            question: what is asked.
            spool: takes each admitted adapter as it comes, so that only one is held at a time;
                None where none is due.

        Returns:
            Each asked site's reply, and the bytes of adapters that were sent to it.
        """
        timeout = self._config.federation.round_timeout_s
        versions = {rank: self._version(question.adapter, rank) for rank in self._ranks(question)}
        members = [self._membership.members[site] for site in question.sites]
        carried = None if question.carried is None else record_of(encode(question.carried))
        contents = [
            (
                member.node_id,
                self._content(member.name, question.number, versions[member.rank][0], carried),
            )
            for member in members
        ]
        replies = {
            member.name: SiteReply(member.name, refused=f"no reply within {timeout:g} s")
            for member in members
        }
        kind = MessageType.TRAIN if question.train else MessageType.EVALUATE
        for index, message in exchange(self._grid, contents, kind, timeout):
            member = members[index]
            order = Order(
                member,
                question.number,
                versions[member.rank][1],
                question.train,
                self._run,
                self._config.trained,
                question.earlier.get(member.name, frozenset()),
            )
            reply = admit_reply(message, order, self._config.privacy)
            if spool is not None and reply.adapter is not None:
                spool.add(member.name, reply.adapter)
                reply = replace(reply, adapter=b"")
            replies[member.name] = reply
        beside = 0 if carried is None else _size(carried)
        return replies, {
            member.name: _size(versions[member.rank][0]) + beside for member in members
        }

    def _ranks(self, question: Question) -> set[int]:
        return {self._membership.members[site].rank for site in question.sites}

    def _version(self, adapter: Adapter, rank: int) -> tuple[ArrayRecord, Adapter]:
        """The adapter as sites of a rank get it: the record, and what they read from it."""
        own = adapter if rank == adapter.rank else truncate(adapter, rank)
        data = encode(own, _downward(self._config.wire.dtype), self._config.trained)
        return record_of(data), decode(data, shared=own)

    def _content(
        self, site: str, number: int, adapter: ArrayRecord, carried: ArrayRecord | None
    ) -> RecordDict:
        order = ConfigRecord({"site": site, "round": number, "run": self._run})
        records: dict[str, Any] = {"adapter": adapter, "round": order}
        if carried is not None:
            records["carried"] = carried
        return RecordDict(records)


def _downward(dtype: WireDtype) -> WireDtype:
    """The numbers on the way to the sites, which keep no rounding error for the server.

    int8 is for the way up, where each site adds its error to the next round; down goes float16.
    """
    return "float16" if dtype == "int8" else dtype


def _size(record: ArrayRecord) -> int:
    return sum(len(array.data) for array in record.values())
