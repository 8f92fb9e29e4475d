"""Options that several commands of a site share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from common.config.default_file import default_file_option

SiteFile = Annotated[Path, default_file_option("site.toml", "The site's site.toml")]
