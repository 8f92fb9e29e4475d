"""The import rule: common <- client, server <- simulation; client and server stay apart."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
ALLOWED = {
    "common": {"common"},
    "client": {"client", "common"},
    "server": {"server", "common"},
    "simulation": {"simulation", "client", "server", "common"},
}
OURS = {*ALLOWED, "tests", "benchmarks"}
FLOWER_FILES = {
    "client/app/client_app.py",
    "client/dry_run",
    "client/egress",
    "client/node",
    "client/policy",
    "common/adapter/serialization/message.py",
    "server/server_app.py",
    "server/rounds/reply_validation.py",
    "server/rounds/round_request.py",
    "server/rounds/dispatch.py",
    "server/rounds/transport.py",
    "server/superlink/superlink_patches.py",
    "server/deployment/flwr_cli.py",
    "server/superlink/superlink.py",
    "server/rounds/enrollment.py",
    "server/rounds/join_reply.py",
    "server/rounds/federation.py",
    "simulation/engines",
}


def imported_packages(source: str) -> set[str]:
    """Top-level packages that a module imports anywhere, also inside functions."""
    packages = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package is meant"
            packages.add((node.module or "").split(".")[0])
    return packages


def modules(package: str) -> list[Path]:
    return sorted((REPOSITORY / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    files = modules(package)
    assert files
    for path in files:
        ours = imported_packages(path.read_text()) & OURS
        assert ours <= ALLOWED[package], f"{path} imports {sorted(ours - ALLOWED[package])}"


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_flower_appears_at_the_edges_only(package: str) -> None:
    for path in modules(package):
        name = path.relative_to(REPOSITORY).as_posix()
        at_edge = any(name == edge or name.startswith(f"{edge}/") for edge in FLOWER_FILES)
        assert at_edge or "flwr" not in imported_packages(path.read_text()), name


def test_the_rule_sees_an_import_inside_a_function() -> None:
    assert imported_packages("def f():\n    from simulation.run import x\n") == {"simulation"}
