"""`python -m client node`: a site's node, and its dry run."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from client.cli.options import SiteFile
from common.console import narrow_table, output_console, print_line, working
from common.errors import UsageError
from common.interrupts import left_when_stopped

if TYPE_CHECKING:
    from client.dry_run.dry_run import DryRun

_Dry = Annotated[
    bool, typer.Option("--dry-run", help="Train one round, write what would be sent, send nothing.")
]
_Bundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        metavar="FILE",
        help="Dry run: the app bundle. [default: the approved .fab beside policy.toml]",
    ),
]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Dry run: the output folder. [default: a new one in site.state]",
    ),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option(
        "-c", "--set", metavar="KEY=VALUE", help="Dry run: a setting of the run; repeatable."
    ),
]
_Unconfined = Annotated[
    bool,
    typer.Option("--unconfined", help="Dry run: give the bundle this user's network and files."),
]


def node(
    config: SiteFile,
    dry_run: _Dry = False,
    bundle: _Bundle = None,
    out: _Out = None,
    settings: _Settings = None,
    unconfined: _Unconfined = False,
) -> None:
    """Run the site's node until it is stopped.

    Exit code 70: the connection is lost for good; systemd or the container engine restarts the
    node. Exit code 22: something must be fixed before a restart.

    With --dry-run: train one round, write what would be sent, and end. Exit code 0: the policy
    allows the round; 20: it refuses it. The bundle runs without a network unless --unconfined is
    given.
    """
    if not dry_run:
        if bundle or out or settings or unconfined:
            raise UsageError("--bundle, --out, -c and --unconfined need --dry-run")
        from client.config.site_config import load_site_config
        from client.node.supernode import run_node
        from client.policy.file_ownership import check_own_file

        check_own_file(config, "site.toml", UsageError)
        run_node(load_site_config(config))
    else:
        from client.config.site_config import load_site_config
        from client.node.isolation.network_sandbox import in_network_sandbox, run_in_sandbox

        if unconfined or in_network_sandbox():
            _dry_run(config, bundle, out, settings or [])
        else:
            again = _command_line(config, bundle, out, settings or [])
            raise typer.Exit(run_in_sandbox(again, load_site_config(config).node.key))


def _command_line(
    config: Path, bundle: Path | None, out: Path | None, settings: list[str]
) -> list[str]:
    """Return the command line of a dry run, for the sandboxed process."""
    line = ["node", "--dry-run", "--config", str(config)]
    line += ["--bundle", str(bundle)] if bundle else []
    line += ["--out", str(out)] if out else []
    return line + [part for setting in settings for part in ("-c", setting)]


def _dry_run(config: Path, bundle: Path | None, out: Path | None, settings: list[str]) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"  # before the model hub's library is imported
    from client.config.site_config import load_site_config
    from client.dry_run.dry_run import approved_bundle, dry_run
    from client.dry_run.egress_report import PAGE_NAME, write_dry_run
    from common.config.run_config import parse_settings
    from common.files.private import private_umask

    site, chosen = load_site_config(config), parse_settings(settings, {})
    app = approved_bundle(site, bundle)
    folder = out or site.site.state / f"dry-run-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    kept = f"nothing was sent, and {folder} holds no report; start the command again"
    # What would be sent, and the app's output, may reveal patients.
    with private_umask(), left_when_stopped(kept), working("training one round"):
        made = dry_run(site, app, chosen, folder)
        write_dry_run(made, folder)
    output_console().print(_table(made))
    print_line(f"With these settings: {folder / PAGE_NAME}")
    made.check(folder)


def _table(made: DryRun) -> Table:
    table = narrow_table("", ("answer", "decision", "reason"), ("bytes", "norm", "ε"))
    for reply in made.replies:
        entry = reply.entry
        norm, epsilon = entry.get("adapter", {}).get("norm"), entry.get("epsilon")
        table.add_row(
            reply.name,
            "would leave" if reply.leaves else "would stay",
            escape(str(entry.get("detail") or entry["reason"])),
            f"{entry['bytes']:,}",
            "" if norm is None else f"{norm:.3g}",
            "" if epsilon is None else f"{epsilon:.3g}",
        )
    return table
