"""`python -m client approve`: look into an app bundle, and allow it to run at the site."""

from __future__ import annotations

import getpass
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from common.console import narrow_table, output_console

BundlePath = Annotated[
    Path,
    typer.Argument(metavar="BUNDLE", help="The .fab file of `flwr build`."),
]
PolicyPath = Annotated[
    Path, typer.Option("--policy", metavar="FILE", help="The site's policy.toml.")
]
By = Annotated[
    str | None,
    typer.Option("--by", metavar="NAME", help="Who approves it. [default: this user]"),
]
Yes = Annotated[bool, typer.Option("--yes", help="Approve without asking.")]


def approve(bundle: BundlePath, policy: PolicyPath, by: By = None, yes: Yes = False) -> None:
    """Show what an app bundle contains and its digest; on yes, write it to the policy."""
    from client.site.bundles import BundleContents, approve_bundle, read_bundle
    from client.site.policy import load_policy

    contents: BundleContents = read_bundle(bundle)
    known = load_policy(policy).bundles.get(contents.sha256)
    console = output_console()
    table = narrow_table(escape(contents.name), ("file", "SHA-256"), ("bytes",))
    for file in contents.files:
        table.add_row(escape(file.path), file.sha256[:16], f"{file.size:,}")
    console.print(table)
    _say(console, f"runs at the site: {contents.client_app}")
    _say(console, f"SHA-256: {contents.sha256}")
    for remark in contents.remarks:
        _say(console, f"look at: {remark}")
    if known is not None:
        _say(console, f"approved already, by {known.approved_by} at {known.approved_at}")
        return
    if not yes and not typer.confirm(f"Approve it in {policy}?"):
        _say(console, "not approved; nothing is written")
        raise typer.Exit(1)
    now = datetime.now().astimezone()
    approve_bundle(policy, contents, by or getpass.getuser(), now)
    _say(console, f"approved in {policy}; a running node knows from its next message on")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
