"""Options that several commands of a site share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SiteFile = Annotated[Path, typer.Option("--config", metavar="FILE", help="The site's site.toml.")]
