"""`python -m server.superlink.superlink STATE ...`: Flower's SuperLink, with our checks.

The arguments after STATE are those of `flower-superlink`. The patched names are internal to Flower
1.41.0, which is pinned exactly. With another release, or if a name is gone, the SuperLink does not
start: it would run without the authentication.
"""

from __future__ import annotations

import inspect
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import flwr
from flwr.proto.control_pb2 import StartRunResponse
from flwr.superlink import main as application
from google.protobuf.message import DecodeError

from common.errors import FederationError
from common.flower.log_colours import plain_flower_log
from common.flower.request_size_limit import limit_request_size
from server.deployment.control_log import ControlLog, control_log
from server.deployment.operators import SERVICES_VARIABLE, Operators
from server.superlink.control_api_guard import require_credential
from server.superlink.superlink_patches import (
    PUSH_MESSAGES,
    PUSH_OBJECT,
    accept_resent_objects,
    reject_foreign_replies,
)

RELEASE = "1.41.0"
UNGUARDED = ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API")
"""Variables that would open further APIs, over gRPC, without the authentication."""
CREATE = "create_app"

# By full name: their packages have another object under the same short name.
command = import_module("flwr.superlink.cli.flower_superlink")
fleet = import_module("flwr.superlink.routers.fleet.router")
runtime = import_module("flwr.supercore.routers.runtime.router")


def check_release() -> None:
    """Raise `FederationError` if Flower is not the release that the guard is made for."""
    if flwr.__version__ != RELEASE:
        raise FederationError(
            f"flwr {flwr.__version__} is installed, the guard is made for {RELEASE}"
        )
    for name, calls, module in (
        (CREATE, f"fastapi_app = {CREATE}(lifespan_config, SuperLinkLifespan)", command),
        (CREATE, "        app=fastapi_app,\n", command),
        (PUSH_MESSAGES, f"fleet_handlers.{PUSH_MESSAGES}(request=request, state=state)", fleet),
        (PUSH_OBJECT, f"handlers.{PUSH_OBJECT}(request, state, task)", runtime),
    ):
        if calls not in inspect.getsource(module):
            raise FederationError(
                f"Flower's {name} is not where it was; the guard would be bypassed"
            )


def run_id_of(response: bytes) -> str:
    """Return the run's id in the response to `start-run`, empty if there is none."""
    try:
        parsed = StartRunResponse.FromString(response)
    except DecodeError:
        return ""
    return str(parsed.run_id) if parsed.run_id else ""


def guard(state: Path, services: str) -> None:
    """Patch the SuperLink of this process: authentication, size limit, and the two fixes.

    Args:
        state: the folder of the services' state.
        services: SHA-256 of the services' own credential.
    """
    check_release()
    reject_foreign_replies()
    accept_resent_objects()
    original = getattr(application, CREATE)
    operators, control = Operators(state, services), ControlLog(control_log(state))

    def create_app(*arguments: Any, **settings: Any) -> Any:
        flower = limit_request_size(original(*arguments, **settings))
        return require_credential(flower, operators, control, run_id_of)

    setattr(application, CREATE, create_app)


def main() -> None:
    """Run the SuperLink until a signal ends it."""
    for name in UNGUARDED:
        os.environ.pop(name, None)
    state, services = Path(sys.argv[1]), os.environ.pop(SERVICES_VARIABLE, "")
    plain_flower_log()  # it goes to a file
    sys.argv = ["flower-superlink", *sys.argv[2:]]
    guard(state, services)
    command.flower_superlink()


if __name__ == "__main__":
    main()
