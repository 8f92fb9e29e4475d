"""The architecture's rules: direction of imports, width of folders, one definition per name."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
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
    "server/deployment/control_api.py",
    "server/deployment/flwr_cli.py",
    "server/rounds",
    "server/server_app.py",
    "server/statistics_run",
    "server/superlink",
    "simulation/engines",
}
"""Files and folders that may import Flower; the mathematics knows nothing of it."""

MOST_CHILDREN = 13

SHARED_NAMES = {
    # The nano models and the organ scores are registered by module: each has the same functions.
    "build", "predict_quantiles", "save", "score", "window_loss",
    # Entry points, one per process.
    "main",
    # Flower names the app's handlers by message type.
    "evaluate",
    # Both sides of one message.
    "RoundRequest",
}  # fmt: skip
"""Public functions and classes that several modules define on purpose."""


def imported_modules(source: str) -> set[str]:
    """Full names of what a module imports anywhere, also inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which package is meant"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def imported_packages(source: str) -> set[str]:
    """Top-level packages that a module imports."""
    return {module.partition(".")[0] for module in imported_modules(source)}


def files(package: str) -> list[Path]:
    found = sorted((REPOSITORY / package).rglob("*.py"))
    assert found
    return found


def packages() -> Iterator[Path]:
    """Folders of Python files below the four top-level packages, and these."""
    for name in ALLOWED:
        yield from sorted({path.parent for path in files(name)})


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_one_way(package: str) -> None:
    for path in files(package):
        ours = imported_packages(path.read_text()) & OURS
        assert ours <= ALLOWED[package], f"{path} imports {sorted(ours - ALLOWED[package])}"


def test_the_rule_sees_an_import_inside_a_function() -> None:
    assert imported_packages("def f():\n    from simulation.run import x\n") == {"simulation"}


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_flower_appears_at_the_edges_only(package: str) -> None:
    for path in files(package):
        name = name_of(path)
        at_edge = any(name == edge or name.startswith(f"{edge}/") for edge in FLOWER_FILES)
        assert at_edge or "flwr" not in imported_packages(path.read_text()), name


@pytest.mark.parametrize("edge", sorted(FLOWER_FILES))
def test_each_edge_is_there_and_imports_flower(edge: str) -> None:
    path = REPOSITORY / edge
    sources = files(edge) if path.is_dir() else [path]
    assert any("flwr" in imported_packages(source.read_text()) for source in sources)


def test_files_do_not_import_each_other_in_a_circle() -> None:
    modules = {
        name_of(path).removesuffix(".py").removesuffix("/__init__").replace("/", "."): path
        for package in ALLOWED
        for path in files(package)
    }
    imports = {}
    for module, path in modules.items():
        wanted = imported_modules(path.read_text())
        known = {name if name in modules else name.rpartition(".")[0] for name in wanted}
        imports[module] = sorted(known & set(modules) - {module})
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join((*way, module))}"
        if module not in done:
            for other in imports[module]:
                visit(other, (*way, module))
            done.add(module)

    for module in modules:
        visit(module, ())


def test_folders_are_narrow() -> None:
    for folder in packages():
        children = [
            child.name
            for child in folder.iterdir()
            if child.suffix == ".py" or (child.is_dir() and child.name != "__pycache__")
        ]
        counted = set(children) - {"__init__.py", "__main__.py"}
        assert len(counted) <= MOST_CHILDREN, folder


@pytest.mark.parametrize("folder", list(packages()), ids=name_of)
def test_a_package_says_what_is_inside_and_where_to_begin(folder: Path) -> None:
    lines = (ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or "").splitlines()
    assert len(lines) >= 3, f"{folder}: what is inside, and where to begin"


def test_a_public_name_is_defined_once() -> None:
    """Commands are left out: each is named as the function that it calls."""
    places = defaultdict(list)
    for package in ALLOWED:
        for path in files(package):
            if "cli" in path.parts:
                continue
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                    places[node.name].append(name_of(path))
    twice = {name: where for name, where in places.items() if len(where) > 1}
    assert twice.keys() <= SHARED_NAMES, twice
    assert twice.keys() >= SHARED_NAMES, "a name that is no longer shared"
