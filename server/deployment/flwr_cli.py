"""`python -m server.deployment.flwr_cli ...`: `flwr` with a credential, and each node's last sign.

`flwr` has a plugin interface that adds a token to each call, but only for Flower's own login, which
stores the token in a file. Here the token comes from the environment and is not stored.

The SuperLink calls a node online until two of its announced intervals have passed without a
heartbeat, a minute. Its response also has the time at which that would be over, from which the time
of the last heartbeat follows; `flwr` does not print it, so it is added to the JSON here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any

from flwr.cli import utils
from flwr.cli.auth_plugin import CliAuthPlugin, NoOpCliAuthPlugin
from flwr.common.constant import ACCESS_TOKEN_KEY, HEARTBEAT_PATIENCE

from common.errors import FederationError
from server.deployment.flwr_subprocess import CREDENTIAL_VARIABLE, LAST_HEARD

LOAD = "load_cli_auth_plugin_from_connection"
FORMAT_NODES, NODES_AS_JSON = "_format_nodes", "_to_json"
"""In `flwr.cli.supernode.ls`."""


class OperatorPlugin(NoOpCliAuthPlugin):
    """Plugin of `flwr` that adds an operator's credential to each call."""

    def __init__(self, credential: str) -> None:
        super().__init__()
        self._credential = credential

    def write_tokens_to_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> Sequence[tuple[str, str | bytes]]:
        """Return the metadata with the credential, which Flower sends as a bearer token."""
        return [*metadata, (ACCESS_TOKEN_KEY, self._credential)]


def use_credential(credential: str) -> None:
    """Make `flwr` send this credential, for the rest of this process."""
    if not hasattr(utils, LOAD):
        raise FederationError(f"Flower's {LOAD} is gone; the credential would not be sent")

    def load(_host: str, _authn_type: str | None = None) -> CliAuthPlugin:
        return OperatorPlugin(credential)

    setattr(utils, LOAD, load)


def seconds_since_heard(node: Any, now: datetime) -> float | None:
    """Return the seconds since a node's last heartbeat; None if it is not online.

    Args:
        node: Flower's `NodeInfo`.
        now: the SuperLink's time, with its offset.
    """
    if node.status != "online" or not node.HasField("online_until"):
        return None
    heard = node.online_until - HEARTBEAT_PATIENCE * node.heartbeat_interval
    return max(0.0, now.timestamp() - heard)


def add_last_heard() -> None:
    """Make `flwr supernode list` add `LAST_HEARD` to each node's JSON, in this process."""
    listing = import_module("flwr.cli.supernode.ls")  # the package has a function of the same name
    for name in (FORMAT_NODES, NODES_AS_JSON):
        if not hasattr(listing, name):
            raise FederationError(f"Flower's {name} is gone; a lost site would read as online")
    format_nodes, as_json = getattr(listing, FORMAT_NODES), getattr(listing, NODES_AS_JSON)
    heard: dict[str, float | None] = {}

    def remember(nodes: Iterable[Any], now: str) -> Any:
        nodes = list(nodes)
        moment = datetime.fromisoformat(now)
        heard.update({str(node.node_id): seconds_since_heard(node, moment) for node in nodes})
        return format_nodes(nodes, now)

    def add(rows: Any, verbose: bool) -> str:
        answer: dict[str, Any] = json.loads(as_json(rows, verbose=verbose))
        for node in answer["nodes"]:
            node[LAST_HEARD] = heard.get(node["node-id"])
        return json.dumps(answer)

    setattr(listing, FORMAT_NODES, remember)
    setattr(listing, NODES_AS_JSON, add)


def main() -> None:
    """Run `flwr` with this process's arguments."""
    use_credential(os.environ.pop(CREDENTIAL_VARIABLE, ""))
    add_last_heard()
    # Imports Flower's commands, which must follow the patch.
    from flwr.cli.app import app

    sys.argv[0] = "flwr"
    app()


if __name__ == "__main__":
    main()
