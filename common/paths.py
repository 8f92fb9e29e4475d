"""Where prepared cohorts and backbones lie: FEDVITALS_HOME, or the user's data folder.

An app that Flower ships to a node carries neither weights nor tables, and its working directory is
not the project's; so what was prepared is found through one folder that does not depend on either.

    HOME/cohort              the path of the cohort that `flwr run .` uses: the one prepared last
    HOME/cohorts/<source>/   cohorts prepared without --out
    HOME/backbones/<name>/   weights by name
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from common.atomic_io import write_text
from common.errors import CohortError

VARIABLE = "FEDVITALS_HOME"


def home() -> Path:
    """Return the folder, which need not exist yet."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "fedvitals"
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "fedvitals"


def default_cohort_folder(source: str) -> Path:
    """Return where a cohort of this source goes when no folder is given."""
    return home() / "cohorts" / source


def backbone_folder(name: str) -> Path:
    """Return where the weights of a backbone lie; a hub's `owner/name` becomes one folder name."""
    return home() / "backbones" / name.replace("/", "--")


def use_cohort(folder: Path) -> None:
    """Note the cohort that a plain `flwr run .` uses.

    Raises:
        CohortError: where the home cannot be written.
    """
    try:
        write_text(home() / "cohort", f"{folder.absolute()}\n")
    except OSError as error:
        raise CohortError(
            f"the cohort is in {folder}, but {home()} cannot be written "
            f"({error.strerror or error}), where `flwr run .` looks for it; set {VARIABLE} to "
            "another folder"
        ) from error


def current_cohort() -> Path:
    """Return the cohort that was prepared last.

    Raises:
        CohortError: where none was prepared, or it has been moved away.
    """
    note = home() / "cohort"
    if not note.is_file():
        raise CohortError(
            f"no cohort is prepared in {home()}; run `python -m simulation prepare` first, "
            f"or set {VARIABLE} to where it was prepared"
        )
    folder = Path(note.read_text(encoding="utf-8").strip())
    if not folder.is_dir():
        raise CohortError(f"the cohort at {folder} is gone; prepare it again")
    return folder
