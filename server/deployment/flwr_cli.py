"""`python -m server.deployment.flwr_cli ...`: `flwr` with an operator's credential.

`flwr` has a plugin interface that adds a token to each call, but only for Flower's own login, which
stores the token in a file. Here the token comes from the environment and is not stored.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from flwr.cli import utils
from flwr.cli.auth_plugin import CliAuthPlugin, NoOpCliAuthPlugin
from flwr.common.constant import ACCESS_TOKEN_KEY

from common.errors import FederationError
from server.deployment.flwr_subprocess import CREDENTIAL_VARIABLE

LOAD = "load_cli_auth_plugin_from_connection"


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


def main() -> None:
    """Run `flwr` with this process's arguments."""
    use_credential(os.environ.pop(CREDENTIAL_VARIABLE, ""))
    # Imports Flower's commands, which must follow the patch.
    from flwr.cli.app import app

    sys.argv[0] = "flwr"
    app()


if __name__ == "__main__":
    main()
