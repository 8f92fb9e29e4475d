"""`python -m server bundle`: the app as the sites get it, for them to read and approve."""

from __future__ import annotations

import shutil
import tempfile
import tomllib
import zipfile
from pathlib import Path
from typing import Annotated

import typer

from common.flower.bundle_signature import bundle_name, sign_bundle, signature_path, write_signature
from common.hashing import file_sha256
from server.cli.services import say
from server.deployment.author_key import new_author_key, read_private_key
from server.deployment.flwr_subprocess import connect
from server.deployment.server_config import PROJECT

Out = Annotated[Path, typer.Option(metavar="FILE", help="Where the bundle goes.")]
App = Annotated[Path, typer.Option(metavar="DIR", help="The project's folder.")]
Sign = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY",
        help="Sign it with this Ed25519 private key (OpenSSH or PEM), into FILE.sig.",
        show_default=False,
    ),
]
NewKey = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY", help="Make such a key and KEY.pub, and no bundle.", show_default=False
    ),
]


def bundle(
    out: Out = Path("fedvitals.fab"),
    app: App = PROJECT,
    sign: Sign = None,
    new_key: NewKey = None,
) -> None:
    """Write the bundle that a run ships, and print the SHA-256 that sites approve it by."""
    if new_key is not None:
        made = new_author_key(new_key)
        say(f"{new_key} stays with you; sites put this into their policy's author-keys:")
        say(f"{made.text} {made.name}")
        return
    key = None if sign is None else read_private_key(sign, _passphrase)
    with tempfile.TemporaryDirectory(prefix="fedvitals-bundle-") as folder:
        flower = connect(Path(folder) / "flower", "127.0.0.1:1")  # nothing is asked of it
        built = flower.build(app.absolute(), Path(folder))
        shutil.copyfile(built, out)
    digest = file_sha256(out)
    say(f"{digest}  {out}")
    if sign is None or key is None:
        return
    with zipfile.ZipFile(out) as archive:
        name = bundle_name(tomllib.loads(archive.read("pyproject.toml").decode()))
    signature = sign_bundle(digest, name, key, sign.stem)
    write_signature(signature, signature_path(out))
    say(f"signed {name} with {signature.author.fingerprint}, in {signature_path(out)}")


def _passphrase() -> str:
    return str(typer.prompt("Passphrase of the key", hide_input=True))
