"""App bundles of a few files, made in milliseconds."""

from __future__ import annotations

import zipfile
from pathlib import Path

PROJECT = """[project]
name = "app"
version = "1.0"
[tool.flwr.app]
publisher = "us"
[tool.flwr.app.components]
clientapp = "client.app.client_app:app"
"""


def make_bundle(folder: Path, project: str = PROJECT, /, **files: str | bytes) -> Path:
    """Write `app.fab` with these files, and return its path; its bytes depend on nothing else."""
    path = folder / "app.fab"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in {"pyproject.toml": project, **files}.items():
            archive.writestr(zipfile.ZipInfo(name), content)  # of 1980, whatever the clock says
    return path
