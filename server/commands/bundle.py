"""`python -m server bundle`: the app as the sites get it, for them to read and approve."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from server.commands.services import say
from server.deployment.config import PROJECT
from server.deployment.flower import connect

Out = Annotated[Path, typer.Option(metavar="FILE", help="Where the bundle goes.")]
App = Annotated[Path, typer.Option(metavar="DIR", help="The project's folder.")]


def bundle(out: Out = Path("fedvitals.fab"), app: App = PROJECT) -> None:
    """Write the bundle that a run ships, and print the SHA-256 that sites approve it by."""
    with tempfile.TemporaryDirectory(prefix="fedvitals-bundle-") as folder:
        flower = connect(Path(folder) / "flower", "127.0.0.1:1")  # nothing is asked of it
        built = flower.build(app.absolute(), Path(folder))
        shutil.copyfile(built, out)
    say(f"{hashlib.sha256(out.read_bytes()).hexdigest()}  {out}")
