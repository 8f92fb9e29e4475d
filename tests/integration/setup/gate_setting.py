"""A coordinator on loopback for the gate's test: certificates, keys, and the hostile app."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPOSITORY = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).absolute().parent
START_S = 90.0
HOSTILE = REPOSITORY / "tests" / "integration" / "hostile_app"
PROJECT = """[project]
name = "hostile"
version = "0.0.1"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedvitals-tests"
fab-include = ["tests/integration/hostile_app/*.py"]

[tool.flwr.app.components]
serverapp = "tests.integration.hostile_app.server:app"
clientapp = "tests.integration.hostile_app.client:app"

# A site accepts no setting that is none of a run: the cases go by the name of one.
[tool.flwr.app.config]
data = ""
out = ""
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of every process of the test."""
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(BIN), os.environ["PATH"]]),
        "PYTHONPATH": str(REPOSITORY),
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        **more,
    }


def make_app(folder: Path, comment: str = "") -> Path:
    """Copy the hostile app to where Flower builds a bundle of it; a comment makes it another."""
    app = folder / "hostile"
    package = app / HOSTILE.relative_to(REPOSITORY)
    package.mkdir(parents=True)
    (app / "pyproject.toml").write_text(PROJECT)
    for path in HOSTILE.glob("*.py"):
        (package / path.name).write_text(f"{path.read_text()}{comment}")
    return app


def make_certificates(folder: Path, days: int = 2) -> None:
    """Write ca.crt, server.crt and server.key for loopback."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, key = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "coordinator")])
    now = dt.datetime.now(dt.UTC)

    def builder(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=10))
            .not_valid_after(now + dt.timedelta(days=days))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA384())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    server = (
        builder(name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA384())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.crt").write_bytes(ca.public_bytes(pem))
    (folder / "server.crt").write_bytes(server.public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def make_node_key(path: Path) -> None:
    """Write a site's key pair as `ssh-keygen -t ecdsa -b 384` does."""
    key = ec.generate_private_key(ec.SECP384R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    path.with_name(f"{path.name}.pub").write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    )


@contextmanager
def running(
    command: list[str], log: Path, env: dict[str, str], cwd: Path = REPOSITORY
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for as long as the block lasts."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=env, cwd=cwd)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until somebody listens on a port of this machine."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise AssertionError(f"nobody listens on {port}: {log.read_text()[-3000:]}")
