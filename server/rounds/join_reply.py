"""Parser of a node's reply to a join request: its sites and their known fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, Message

from common.errors import FederationError
from common.names import printable
from server.rounds.site_registry import JoinReply

SITE = "site."
"""Prefix of the records of a node's sites."""
MOST_SITES = 1000
"""Largest number of sites that one node of a simulation may run."""
MOST_NODES = 100_000
"""Largest number of nodes that a simulation may announce."""
FIELDS = (
    "backbone-digest",
    "outside",
    "patients",
    "rank",
    "rule",
    "source",
    "step-minutes",
    "usable",
    "windows",
)
"""Fields read from a site's record; others are ignored."""


class JoinError(FederationError):
    """A node's join reply is refused as a whole."""


def registered_site(node: int, registered: str, reply: Message) -> JoinReply:
    """Parse the reply of a hospital's node, which runs one site.

    Args:
        node: Flower's id of the queried node.
        registered: the name under which the node's key is registered.
        reply: its reply.

    Raises:
        JoinError: it comes from another node, or is not for the one site under whose name the key
            is registered.
    """
    _check_source(node, reply)
    sites = _site_records(reply)
    if len(sites) != 1:
        raise JoinError(
            f"it answers for {len(sites)} sites; a node runs one, the site under whose name its "
            "key is registered"
        )
    ((name, record),) = sites.items()
    if name != registered:
        raise JoinError(
            f"it calls itself {printable(name, 64)!r}, but its key is registered as "
            f"{registered!r}; "
            f'set id = "{registered}" in its site.toml, or register the key under the other name'
        )
    return JoinReply(registered, node, _known_fields(record))


def simulated_sites(node: int, reply: Message) -> list[JoinReply]:
    """Parse the reply of a simulation's node, which may run several sites.

    Raises:
        JoinError: it comes from another node, or has more than `MOST_SITES` sites.
    """
    _check_source(node, reply)
    sites = _site_records(reply)
    if len(sites) > MOST_SITES:
        raise JoinError(f"it answers for {len(sites)} sites, at most {MOST_SITES} are allowed")
    return [JoinReply(name, node, _known_fields(record)) for name, record in sites.items()]


def announced_nodes(reply: Message) -> int:
    """Return the number of nodes that a simulation's node announces; 0 where it announces none."""
    records = reply.content.config_records
    nodes = records["node"].get("nodes", 0) if "node" in records else 0
    return nodes if type(nodes) is int and 0 <= nodes <= MOST_NODES else 0


def _check_source(node: int, reply: Message) -> None:
    if reply.metadata.src_node_id != node:
        raise JoinError("its reply comes from another node than the one that was queried")


def _site_records(reply: Message) -> dict[str, ConfigRecord]:
    return {
        name.removeprefix(SITE): record
        for name, record in reply.content.config_records.items()
        if name.startswith(SITE)
    }


def _known_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields, with bounded text: a reply may be as long as a message."""
    return {
        name: printable(record[name]) if isinstance(record[name], str) else record[name]
        for name in FIELDS
        if name in record and type(record[name]) in (bool, int, float, str)
    }
