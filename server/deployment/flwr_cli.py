"""`python -m server.deployment.flwr_cli ...`: Flower's own command `flwr`, as an operator.

Flower's command has a place for plugins that add a token to each call, but fills it by its own
login alone, and keeps that token in a file. Here it comes from the environment and is kept nowhere.
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
    """Adds the credential to each call.

    Args:
        credential: the operator's.
    """

    def __init__(self, credential: str) -> None:
        super().__init__()
        self._credential = credential

    def write_tokens_to_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> Sequence[tuple[str, str | bytes]]:
        """Return the metadata with the credential, which Flower sends as a bearer token."""
        return [*metadata, (ACCESS_TOKEN_KEY, self._credential)]


def use_credential(credential: str) -> None:
    """Have `flwr` send this credential, for the rest of this process."""
    if not hasattr(utils, LOAD):
        raise FederationError(f"Flower's {LOAD} is gone; the credential would not be sent")

    def load(_host: str, _authn_type: str | None = None) -> CliAuthPlugin:
        return OperatorPlugin(credential)

    setattr(utils, LOAD, load)


def main() -> None:
    """Run `flwr` with this process's arguments."""
    use_credential(os.environ.pop(CREDENTIAL_VARIABLE, ""))
    # Imports every command of Flower's, after the plugin is in its place.
    from flwr.cli.app import app

    sys.argv[0] = "flwr"
    app()


if __name__ == "__main__":
    main()
