"""`python -m server.deployment.health HOST:PORT ...`: health check for container probes.

Exit code 0: every service reports SERVING; else 1, and a line on standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

_TIMEOUT_S = 5.0


def serving(address: str) -> bool:
    """Return True if the service at HOST:PORT reports SERVING."""
    with grpc.insecure_channel(address) as channel:
        try:
            response = HealthStub(channel).Check(HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError:
            return False
    return bool(response.status == HealthCheckResponse.SERVING)


def main(addresses: Sequence[str]) -> int:
    """Return the exit code."""
    for address in addresses:
        if not serving(address):
            print(f"{address} is not serving", file=sys.stderr)
            return 1
    return 0 if addresses else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
