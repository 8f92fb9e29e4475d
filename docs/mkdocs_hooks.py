"""MkDocs hooks: the site is built from README.md, docs/ and deploy/, with their links as they are.

MkDocs reads one folder of pages. These pages are in several, and link to files beside them (a
policy.toml, a module), so pages and linked files are copied into one folder, in the same places.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "docs/**/*.svg", "docs/assets/*", "deploy/**/*.md")
SEARCH_WORKER = "docs/assets/iframe-worker.js"
"""The library iframe-worker, by which the search works in a page opened from a file.

The theme would load it from a server when the page is opened."""
_FROM_A_SERVER = "https://unpkg.com/iframe-worker/shim"
_LINK = re.compile(r"\]\(([^)#\s]+)")
_source: TemporaryDirectory[str] | None = None


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Copy the pages and the files that they link to, and build from the copy."""
    global _source
    _source = TemporaryDirectory(prefix="fedvitals-docs-")
    # Not /tmp/x behind a symbolic link: MkDocs compares paths as text.
    folder = Path(_source.name).resolve()
    for page in (found for pattern in PAGES for found in REPOSITORY.glob(pattern)):
        _copy(page, folder)
        if page.suffix == ".md":
            for link in _LINK.findall(page.read_text(encoding="utf-8")):
                linked = (page.parent / link).resolve()
                if linked.is_file() and linked.is_relative_to(REPOSITORY):
                    _copy(linked, folder)
    config.docs_dir = str(folder)
    return config


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Load the search worker's library from the site itself."""
    return output.replace(_FROM_A_SERVER, get_relative_url(SEARCH_WORKER, page.url))


def on_post_build(config: MkDocsConfig) -> None:
    """Remove the copy, and the theme's page for a server that does not find one."""
    if _source is not None:
        _source.cleanup()
    (Path(config.site_dir) / "404.html").unlink(missing_ok=True)


def _copy(file: Path, folder: Path) -> None:
    copy = folder / file.relative_to(REPOSITORY)
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, copy)
