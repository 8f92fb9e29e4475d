"""Every relative link of the repository's Markdown leads somewhere, and every page can be found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.documents import REPOSITORY, anchors, links, markdown_files

FILES = {path.relative_to(REPOSITORY).as_posix(): path for path in markdown_files()}


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def is_elsewhere(target: str) -> bool:
    return target.startswith(("http://", "https://", "mailto:"))


@pytest.mark.parametrize("name", sorted(FILES))
def test_links_and_anchors_lead_somewhere(name: str) -> None:
    path = FILES[name]
    for line, target in links(text_of(path)):
        if is_elsewhere(target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.is_relative_to(REPOSITORY), f"{name}:{line}: {target} leaves the repository"
        assert there.exists(), f"{name}:{line}: {target} does not exist"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(text_of(there)), f"{name}:{line}: {target} has no such heading"


def test_every_page_of_docs_is_found_from_its_index() -> None:
    docs = REPOSITORY / "docs"
    found, ahead = set[Path](), [docs / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in found:
            continue
        found.add(page)
        for _, target in links(text_of(page)):
            there = (page.parent / target.partition("#")[0]).resolve()
            if not is_elsewhere(target) and there.suffix == ".md" and there.is_relative_to(docs):
                ahead.append(there)
    lost = set(docs.rglob("*.md")) - found
    assert not lost, f"docs/README.md leads to none of {sorted(map(str, lost))}"


def test_the_index_is_linked_from_the_top() -> None:
    assert "docs/README.md" in {target for _, target in links(text_of(REPOSITORY / "README.md"))}


def test_headings_become_the_anchors_that_github_makes() -> None:
    text = (
        "# A *b*: `c-d` (e)\n## Twice\n## Twice\n```\n# no heading\n```\n### [On](x.md) real data\n"
    )
    assert anchors(text) == {"a-b-c-d-e", "twice", "twice-1", "on-real-data"}


def test_links_in_code_are_none() -> None:
    text = "[a](b.md#c) `[d](e)`\n```\n[f](g)\n```\n![h](i.svg)"
    assert list(links(text)) == [(1, "b.md#c"), (5, "i.svg")]
