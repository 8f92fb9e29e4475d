"""`python -m server bundle`: the app bundle that sites receive, to inspect and approve."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from common.console import print_line
from common.files.atomic_io import atomic_file
from common.files.hashing import file_sha256
from common.files.output_folder import check_output_file
from common.flower.bundle_signature import (
    bundle_name,
    read_signature,
    sign_bundle,
    signature_path,
    write_signature,
)
from common.interrupts import left_when_stopped
from server.deployment.author_key import new_author_key, read_private_key
from server.deployment.flwr_subprocess import connect
from server.deployment.server_config import PROJECT

_Out = Annotated[Path, typer.Option(metavar="FILE", help="The bundle to write.")]
_App = Annotated[Path, typer.Option(metavar="DIR", help="The project's folder.")]
_Sign = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY",
        help="Sign it with this Ed25519 private key (OpenSSH or PEM) into FILE.sig.",
        show_default=False,
    ),
]
_NewKey = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY", help="Create a key and KEY.pub instead of a bundle.", show_default=False
    ),
]


def bundle(
    out: _Out = Path("fedvitals.fab"),
    app: _App = PROJECT,
    sign: _Sign = None,
    new_key: _NewKey = None,
) -> None:
    """Write the app bundle that a run ships, and print its SHA-256 for approval."""
    if new_key is not None:
        made = new_author_key(new_key)
        print_line(f"keep {new_key} secret; sites add this to the author-keys of their policy:")
        print_line(f"{made.text} {made.name}")
        return
    check_output_file(out, _is_bundle, kind="app bundle")
    beside = signature_path(out)
    check_output_file(beside, _is_signature, kind="signature of a bundle")
    key = None if sign is None else read_private_key(sign, _passphrase)
    with (
        left_when_stopped(f"nothing was written to {out}"),
        tempfile.TemporaryDirectory(prefix="fedvitals-bundle-") as folder,
    ):
        flower = connect(Path(folder) / "flower", "127.0.0.1:1")  # no request is sent
        built = flower.build(app.absolute(), Path(folder))
        with atomic_file(out) as partial:
            shutil.copyfile(built, partial)
        beside.unlink(missing_ok=True)  # of the bundle that was replaced
    digest = file_sha256(out)
    print_line(f"{digest}  {out}")
    if sign is None or key is None:
        return
    with zipfile.ZipFile(out) as archive:
        name = bundle_name(tomllib.loads(archive.read("pyproject.toml").decode()))
    signature = sign_bundle(digest, name, key, sign.stem)
    write_signature(signature, beside)
    print_line(f"signed {name} with {signature.author.fingerprint}, in {beside}")


def _is_bundle(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return "pyproject.toml" in archive.namelist()


def _is_signature(file: Path) -> bool:
    return bool(read_signature(file))


def _passphrase() -> str:
    return str(typer.prompt("Passphrase of the key", hide_input=True))
