"""What a node says when it is asked which sites it answers for, cut down to what may be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flwr.app import ConfigRecord, Message

from common.errors import FederationError
from common.names import printable
from server.rounds.site_registry import Answer

SITE = "site."
MOST_SITES = 1000
"""That one node of a simulation may play."""
MOST_NODES = 100_000
"""That a simulation may announce."""
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
"""Of a site's record; what else stands there is not read."""


class JoinError(FederationError):
    """A node's answer cannot be used, whatever it says of its sites."""


def registered_site(node: int, registered: str, reply: Message) -> Answer:
    """Return what a hospital's node says of its one site.

    Args:
        node: Flower's id of the node that was asked.
        registered: the name under which the node's key is registered.
        reply: its answer.

    Raises:
        JoinError: where it comes from another node, tells of several sites or none, or of another
            than the one that its key stands for.
    """
    _check_source(node, reply)
    sites = _site_records(reply)
    if len(sites) != 1:
        raise JoinError(
            f"it answers for {len(sites)} sites; a node stands for one, the site under whose name "
            "its key is registered"
        )
    ((name, record),) = sites.items()
    if name != registered:
        raise JoinError(
            f"it calls itself {printable(name, 64)!r}, but its key is registered as "
            f"{registered!r}; "
            f'set id = "{registered}" in its site.toml, or register the key under the other name'
        )
    return registered, node, _said(record)


def simulated_sites(node: int, reply: Message) -> list[Answer]:
    """Return what a simulation's node says of the sites that it plays.

    Raises:
        JoinError: where it comes from another node, or there are more than `MOST_SITES`.
    """
    _check_source(node, reply)
    sites = _site_records(reply)
    if len(sites) > MOST_SITES:
        raise JoinError(f"it answers for {len(sites)} sites, at most {MOST_SITES} are played")
    return [(name, node, _said(record)) for name, record in sites.items()]


def announced_nodes(reply: Message) -> int:
    """Return how many nodes a simulation has, as one of them says; 0 where it does not."""
    records = reply.content.config_records
    nodes = records["node"].get("nodes", 0) if "node" in records else 0
    return nodes if type(nodes) is int and 0 <= nodes <= MOST_NODES else 0


def _check_source(node: int, reply: Message) -> None:
    if reply.metadata.src_node_id != node:
        raise JoinError("its answer comes from another node than the one that was asked")


def _site_records(reply: Message) -> dict[str, ConfigRecord]:
    return {
        name.removeprefix(SITE): record
        for name, record in reply.content.config_records.items()
        if name.startswith(SITE)
    }


def _said(record: Mapping[str, Any]) -> dict[str, Any]:
    """The known fields, text cut to what is ever used: an answer may be as long as a message."""
    return {
        name: printable(record[name]) if isinstance(record[name], str) else record[name]
        for name in FIELDS
        if name in record and type(record[name]) in (bool, int, float, str)
    }
