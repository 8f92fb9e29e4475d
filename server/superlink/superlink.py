"""`python -m server.superlink.superlink STATE ...`: Flower's SuperLink behind our guard.

What follows STATE are the arguments of `flower-superlink`. The names that are taken hold of are
internal to Flower 1.41.0, which is pinned exactly; where the release is another one or a name is
gone, the SuperLink does not start: it would run without its guard.
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
from common.flower.request_size_limit import bounded
from server.deployment.control_log import ControlLog, control_log
from server.deployment.operators import SERVICES_VARIABLE, Operators
from server.superlink.control_api_guard import guarded
from server.superlink.superlink_patches import (
    PUSH_MESSAGES,
    PUSH_OBJECT,
    check_origin,
    take_resent,
)

RELEASE = "1.41.0"
UNGUARDED = ("FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API")
"""They would open a second door, of gRPC, without the guard."""
CREATE = "create_app"

# By their full names: their packages hold something else under the same short one.
command = import_module("flwr.superlink.cli.flower_superlink")
fleet = import_module("flwr.superlink.routers.fleet.router")
runtime = import_module("flwr.supercore.routers.runtime.router")


def check_release() -> None:
    """Raise `FederationError` where Flower is not the one that the guard is made for."""
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
                f"Flower's {name} is not where it was; the guard would not be asked"
            )


def run_of(answer: bytes) -> str:
    """Return the run's id in the answer to `start-run`, empty where there is none."""
    try:
        response = StartRunResponse.FromString(answer)
    except DecodeError:
        return ""
    return str(response.run_id) if response.run_id else ""


def guard(state: Path, services: str) -> None:
    """Have the SuperLink of this process serve its application behind the guard.

    Args:
        state: the folder of the services' state.
        services: hash of the services' own credential.
    """
    check_release()
    check_origin()
    take_resent()
    original = getattr(application, CREATE)
    operators, control = Operators(state, services), ControlLog(control_log(state))

    def create_app(*arguments: Any, **settings: Any) -> Any:
        flower = bounded(original(*arguments, **settings))
        return guarded(flower, operators, control, run_of)

    setattr(application, CREATE, create_app)


def main() -> None:
    """Run the SuperLink until a signal ends it."""
    for name in UNGUARDED:
        os.environ.pop(name, None)
    state, services = Path(sys.argv[1]), os.environ.pop(SERVICES_VARIABLE, "")
    sys.argv = ["flower-superlink", *sys.argv[2:]]
    guard(state, services)
    command.flower_superlink()


if __name__ == "__main__":
    main()
