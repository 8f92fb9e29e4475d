"""pyproject.toml repeats what the code knows, for Flower and for uv: the two must not part."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from common.config.run_config import RunConfig

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    pairs: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            pairs |= flat(value, f"{prefix}{key}.")
        else:
            pairs[prefix + key] = value
    return pairs


def test_the_apps_settings_are_the_codes_defaults(pyproject: dict[str, Any]) -> None:
    written = flat(pyproject["tool"]["flwr"]["app"]["config"])
    assert written == RunConfig().flat()
    assert {key: type(value) for key, value in written.items()} == {
        key: type(value) for key, value in RunConfig().flat().items()
    }


def test_uv_is_told_to_fetch_nothing(pyproject: dict[str, Any]) -> None:
    project = pyproject["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(one for extra in extras for one in extra)]
    names = {re.split(r"[\[=<>~! ]", requirement)[0].lower() for requirement in wanted}
    assert set(pyproject["tool"]["uv"]["exclude-dependencies"]) == names


def test_the_app_ships_code_alone(pyproject: dict[str, Any]) -> None:
    patterns = pyproject["tool"]["flwr"]["app"]["fab-include"]
    shipped = {
        path.relative_to(REPOSITORY)
        for pattern in patterns
        for path in REPOSITORY.glob(pattern)
        if path.is_file()
    }
    assert {path.suffix for path in shipped} <= {".py", ".j2", ""}
    assert {path.parts[0] for path in shipped} == {"client", "common", "server", "LICENSE"}
