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
    "client/app.py",
    "client/host",
    "client/site",
    "common/wire.py",
    "server/app.py",
    "server/admission.py",
    "server/asking.py",
    "server/exchange.py",
    "server/deployment/fleet_origin.py",
    "server/deployment/flwr_cli.py",
    "server/deployment/resent.py",
    "server/deployment/superlink.py",
    "server/gathering.py",
    "server/join_answer.py",
    "server/roster.py",
    "server/strategy.py",
    "simulation/engine.py",
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
    assert imported_packages("def f():\n    from simulation.sites import x\n") == {"simulation"}
