"""Folder of prepared cohorts and backbones: FEDVITALS_HOME, or the user's data folder.

An app that Flower ships to a node has neither weights nor tables, and its working directory is not
the project's; this folder depends on neither.

    HOME/cohort              path of the cohort that `flwr run .` uses: the one prepared last
    HOME/cohorts/<source>/   cohorts prepared without --out
    HOME/backbones/<name>/   weights by name
    HOME/site/               the site's state between rounds, e.g. its privacy ledger
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common.errors import CohortError
from common.files.atomic_io import write_text

HOME_VARIABLE = "FEDVITALS_HOME"
STATE_FOLDER = "site"
"""State of a site between rounds; in a simulation, of all sites and below the run's folder."""


def home() -> Path:
    """Return the folder, which need not exist yet."""
    given = os.environ.get(HOME_VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "fedvitals"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "fedvitals"


def default_cohort_folder(source: str) -> Path:
    """Return the default folder of a cohort of this source."""
    return home() / "cohorts" / source


def backbone_folder(name: str) -> Path:
    """Return the folder of a backbone's weights; a hub's `owner/name` becomes one folder name."""
    return home() / "backbones" / name.replace("/", "--")


PREPARED_LAST = "the one prepared last"
"""Why `current_cohort` is used, in a line about a run's cohort."""


def use_cohort(folder: Path) -> None:
    """Record the cohort that `flwr run .` uses without further settings.

    Raises:
        CohortError: the home folder cannot be written.
    """
    try:
        write_text(home() / "cohort", f"{folder.absolute()}\n")
    except OSError as error:
        raise CohortError(
            f"the cohort is in {folder}, but {home()} cannot be written "
            f"({error.strerror or error}), where `flwr run .` looks for it; set {HOME_VARIABLE} to "
            "another folder"
        ) from error


def current_cohort() -> Path:
    """Return the cohort that was prepared last.

    Raises:
        CohortError: none was prepared, or it has been moved.
    """
    note = home() / "cohort"
    if not note.is_file():
        raise CohortError(
            f"no cohort is prepared in {home()}; run `python -m simulation prepare` first, "
            f"or set {HOME_VARIABLE} to the folder that was used"
        )
    folder = Path(note.read_text(encoding="utf-8").strip())
    if not folder.is_dir():
        raise CohortError(f"the cohort at {folder} does not exist any more; prepare it again")
    return folder
