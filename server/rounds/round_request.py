"""Requests of one round: the message to each site, and the facts to validate its reply."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from common.adapter.adapter import Adapter
from common.adapter.serialization.header import MAX_HEADER_BYTES
from common.adapter.serialization.message import WireDtype, decode, encode, record_of
from common.config.run_config import RunConfig
from server.aggregation.truncation import truncate
from server.rounds.site_registry import Member


@dataclass(frozen=True)
class RoundRequest:
    """Request of one round to one site.

    Attributes:
        member: the site.
        round_number: the round.
        run_id: the run's id.
        train: whether the site trains and returns its adapter, or only validates.
        adapter: the global adapter as the site decodes it: truncated to its rank, rounded to the
            type of the numbers on the wire.
        max_reply_bytes: size of the largest acceptable adapter message.
        trained: ``ab``, or ``b`` where A is frozen and shared.
        past_digests: SHA-256 of the adapters that the site sent in earlier rounds.
        content: the message to the site.
    """

    member: Member
    round_number: int
    run_id: str
    train: bool
    adapter: Adapter
    max_reply_bytes: int
    trained: str = "ab"
    past_digests: Collection[str] = ()
    content: RecordDict = field(default_factory=RecordDict)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the adapter and its residual in the message."""
        return sum(
            len(array.data)
            for record in self.content.array_records.values()
            for array in record.values()
        )


def build_requests(
    config: RunConfig,
    members: Sequence[Member],
    *,
    run_id: str,
    round_number: int,
    train: bool,
    adapter: Adapter,
    residual: Adapter | None,
    past_digests: Mapping[str, Collection[str]],
) -> list[RoundRequest]:
    """Build the requests of a round; sites of one rank share one encoded adapter.

    Args:
        config: the run's settings.
        members: the sites of the round.
        run_id: the run's id.
        round_number: the round.
        train: whether the sites train, or only validate.
        adapter: the global adapter.
        residual: the low-rank residual added to its product, if any.
        past_digests: SHA-256 of the adapters sent in earlier rounds, by site.

    Returns:
        The requests in the order of `members`.
    """
    encoded = {rank: _encode_for(rank, adapter, config) for rank in {m.rank for m in members}}
    residual_record = None if residual is None else record_of(encode(residual))
    return [
        RoundRequest(
            member=member,
            round_number=round_number,
            run_id=run_id,
            train=train,
            adapter=encoded[member.rank].decoded,
            max_reply_bytes=encoded[member.rank].max_reply_bytes,
            trained=config.trained,
            past_digests=past_digests.get(member.name, frozenset()),
            content=_content(
                ConfigRecord({"site": member.name, "round": round_number, "run": run_id}),
                encoded[member.rank].record,
                residual_record,
            ),
        )
        for member in members
    ]


@dataclass(frozen=True)
class _EncodedAdapter:
    """The global adapter as the sites of one rank receive it."""

    record: ArrayRecord
    decoded: Adapter
    max_reply_bytes: int


def _encode_for(rank: int, adapter: Adapter, config: RunConfig) -> _EncodedAdapter:
    own = adapter if rank == adapter.rank else truncate(adapter, rank)
    data = encode(own, _downlink_dtype(config.wire.dtype), config.trained)
    decoded = decode(data, shared=own)
    return _EncodedAdapter(record_of(data), decoded, max_reply_bytes(decoded))


def _downlink_dtype(dtype: WireDtype) -> WireDtype:
    """The type of the numbers sent to the sites: float16 where the uplink is int8.

    Sites add the rounding error of int8 to their next reply; the server keeps none for them.
    """
    return "float16" if dtype == "int8" else dtype


def max_reply_bytes(adapter: Adapter) -> int:
    """Return the size of the largest message with an adapter of this layout, in any wire type."""
    return len(encode(adapter)) + MAX_HEADER_BYTES


def _content(
    header: ConfigRecord, adapter: ArrayRecord, residual: ArrayRecord | None
) -> RecordDict:
    content = RecordDict({"adapter": adapter, "round": header})
    if residual is not None:
        content["carried"] = residual  # its name on the wire
    return content
