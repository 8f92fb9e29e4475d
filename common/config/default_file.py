"""Default place of a settings file, for the commands with `--config` or `--policy`.

A file that is not named on the command line is looked for in the present folder, in FEDVITALS_HOME
(or the user's data folder), and in /etc/fedvitals; the first one is taken, and a line on standard
error names it. In the present folder, which may be shared, it must be the user's or root's.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import typer

from common.errors import UsageError
from common.files.paths import home

ROOT = 0
"""Id of the user who may write everywhere anyway."""
SYSTEM_FOLDER = Path("/etc/fedvitals")
"""Folder of the settings in the packaged units, containers and charts."""


def default_file(name: str, option: str = "--config") -> Path:
    """Return the file of this name in the first default place that has it, and print which.

    Args:
        name: the file's name, e.g. ``site.toml``.
        option: the option that names another one, for the error.

    Raises:
        UsageError: no place has it, or the present folder has one of another user.
    """
    places = [Path(), home(), SYSTEM_FOLDER]
    for folder in places:
        if (folder / name).is_file():
            if folder == Path():
                _check_owner(folder / name, option)
            # Not on standard output, which may be JSON.
            print(f"using {(folder / name).absolute()}", file=sys.stderr, flush=True)
            return folder / name
    looked = ", ".join(str(folder.absolute()) for folder in places)
    raise UsageError(f"there is no {name} in {looked}; name the file with {option}")


def _check_owner(file: Path, option: str) -> None:
    """Refuse a file of another user, as in a shared folder: it could name another coordinator."""
    status = file.stat()
    if status.st_uid not in (ROOT, os.geteuid()) or status.st_mode & 0o002:
        raise UsageError(
            f"{file.absolute()} belongs to another user or can be changed by anyone; if it is "
            f"meant, name it with {option}"
        )


def default_file_option(name: str, what: str, option: str = "--config") -> Any:
    """Return a Typer option that takes a settings file, by default from `default_file`.

    Args:
        name: the file's name.
        what: its help, a phrase without a full stop, e.g. ``The site's site.toml``.
        option: its spelling.
    """

    def find() -> Path:
        return default_file(name, option)

    return typer.Option(
        option,
        metavar="FILE",
        default_factory=find,
        show_default=False,
        help=f"{what}. [default: {name} here, in FEDVITALS_HOME or in /etc/fedvitals]",
    )
