"""The documents as a site: it builds, every link leads somewhere, and nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.docs.documents import REPOSITORY

LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
"""Attributes by element whose target a browser loads by itself."""


class Page(HTMLParser):
    """Links, loaded files and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value for name, value in attrs if value is not None}
        if "id" in found:
            self.anchors.add(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if found.get(LOADED.get(tag, ""), "") and found.get("rel") != "canonical":
            self.loaded.append(found[LOADED[tag]])


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        config = load_config(str(REPOSITORY / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        build(config)  # a page that is not in the navigation, or a dead link, aborts it
    return {path: Page(path) for path in folder.rglob("*.html")}


def targets(pages: dict[Path, Page]) -> Iterator[tuple[Path, str]]:
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            if urlsplit(link).scheme not in ("http", "https", "mailto"):
                yield path, link


def test_every_link_leads_to_a_file_and_a_heading(pages: dict[Path, Page]) -> None:
    assert len(pages) > 30
    for path, link in targets(pages):
        parts = urlsplit(link)
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        assert there.is_file(), f"{path.name} links to {link}"
        if parts.fragment and there.suffix == ".html":
            known = pages[there].anchors | {""}
            assert unquote(parts.fragment) in known, f"{path.name} links to {link}"


def test_a_page_loads_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for file in page.loaded:
            assert not urlsplit(file).netloc, f"{path.name} loads {file}"
            assert not file.startswith("/"), f"{path.name} loads {file}, which no folder has"
