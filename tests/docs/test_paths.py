"""Every path that a document names exists, and every name that architecture.md finds in a file."""

from __future__ import annotations

import re

import pytest

from tests.docs.documents import REPOSITORY, documents, prose

FOLDERS = "benchmarks|client|common|deploy|docs|server|simulation|tests"
PATH = re.compile(rf"(?<![\w./-])(?:{FOLDERS})(?:/[\w-]+(?:\.\w+)*)+")
ARCHITECTURE = REPOSITORY / "docs" / "explanation" / "architecture.md"


def quoted_paths(text: str) -> list[str]:
    """Paths of the repository in backticks, with or without more words around them."""
    return [path for quote in re.findall(r"`([^`]+)`", text) for path in PATH.findall(quote)]


@pytest.mark.parametrize("document", documents())
def test_every_path_in_backticks_exists(document: str) -> None:
    file = REPOSITORY / document
    missing = [
        path
        for path in quoted_paths(prose(file.read_text(encoding="utf-8")))
        if not (REPOSITORY / path).exists() and not (file.parent / path).exists()
    ]
    assert not missing, f"{document} names {missing}"


def test_every_path_of_the_architecture_exists_in_its_diagrams_too() -> None:
    paths = PATH.findall(ARCHITECTURE.read_text(encoding="utf-8"))
    assert len(paths) > 60
    missing = [path for path in paths if not (REPOSITORY / path).exists()]
    assert not missing


def test_every_file_of_the_architecture_without_a_folder_exists() -> None:
    names = re.findall(r"`([\w-]+\.(?:py|toml|md))`", ARCHITECTURE.read_text(encoding="utf-8"))
    assert names
    for name in set(names):
        folders = [REPOSITORY / folder for folder in FOLDERS.split("|")]
        there = (REPOSITORY / name).is_file() or any(any(f.rglob(name)) for f in folders)
        assert there, f"architecture.md names {name}"


def test_every_name_of_the_architecture_is_in_the_file_that_it_names() -> None:
    text = ARCHITECTURE.read_text(encoding="utf-8")
    found = re.findall(r"((?:`[\w.]+`(?:, | and )?)+) (?:in|of) `([\w/]+\.py)`", text)
    assert len(found) >= 10
    for names, file in found:
        code = (REPOSITORY / file).read_text(encoding="utf-8")
        for name in re.findall(r"\w+", names.replace(" and ", " ")):
            assert re.search(rf"\b{name}\b", code), f"{file} has no {name}"


def test_paths_are_found_in_longer_quotes() -> None:
    text = (
        "`python benchmarks/cost.py --data x`, `a/client/app`, `server/rounds` and `docs/a-b.md`."
    )
    assert quoted_paths(text) == ["benchmarks/cost.py", "server/rounds", "docs/a-b.md"]
