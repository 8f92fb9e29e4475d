"""`python -m client audit`: what left the site, and whether its record is whole."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from common.console import narrow_table, output_console
from common.errors import AuditError, UsageError

app = typer.Typer(
    help="What left the site: show the record, or verify that nobody has changed it.",
    no_args_is_help=True,
)

Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The site's site.toml.")
]
Log = Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Or the log itself.")]
Kept = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        metavar="NUMBER:SHA256",
        help="An anchor that an earlier verify printed and that was kept elsewhere; repeatable.",
    ),
]
Anchors = Annotated[
    Path | None,
    typer.Option("--anchors", metavar="FILE", help="The signed anchors that `anchor` shipped."),
]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The node's public key, node.pub; repeatable. [default: that of site.toml's node.key]",
    ),
]
SiteConfigFile = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The site's site.toml.")
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FILE|URL",
        help="Where the anchor goes: a file on another machine or a write-once mount, or https.",
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Who signs the server's certificate. [default: the system's]"
    ),
]
Last = Annotated[int, typer.Option("--last", min=1, help="How many entries, the newest last.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the entries as they are.")]


@app.command()
def verify(
    config: Config = None,
    log: Log = None,
    anchor: Kept = None,
    anchors: Anchors = None,
    key: Keys = None,
) -> None:
    """Check every line of the audit log, and print its anchor to keep elsewhere.

    With --anchors also that every anchor which was shipped is signed and none is missing, and that
    the log still holds each. On another machine a copy of the log and node.pub are enough.
    """
    from client.egress.audit.anchor_verification import verify_shipped
    from client.egress.audit.hash_chain import Anchor, verify_log

    if anchors is None and key:
        raise UsageError("--key is for --anchors, which the key has signed")
    shipped = verify_shipped(anchors, key or [], config) if anchors is not None else []
    path = _log_path(config, log, wanted=not shipped)
    kept = [Anchor.parse(text) for text in anchor or []]
    now = verify_log(path, *kept, *(one.anchor for one in shipped))
    _say(f"{path}: {now.lines} lines, none changed, removed, added or moved")
    if shipped:
        newest = shipped[-1]
        _say(
            f"{anchors}: {len(shipped)} anchors of {newest.site}, the newest of {newest.lines} "
            f"lines at {newest.time}; all are signed, none is missing, and the log holds each"
        )
    _say(f"anchor: {now}")
    _say(
        "Keep the anchor away from this machine. Whoever can write the log and the anchor beside "
        "it could cut both off; only an anchor kept elsewhere (--anchor) shows that."
    )


@app.command()
def anchor(config: SiteConfigFile, to: To, ca: Authority = None) -> None:
    """Sign what the audit log holds now with the node's key, and ship that out.

    Whoever rewrites the log afterwards, with its anchor beside it, contradicts what has left.
    """
    from client.config.node_key import read_node_key
    from client.config.site_config import load_site_config
    from client.egress.audit.anchor_shipping import ship_anchor

    site = load_site_config(config)
    _log_path(config, None)
    made = ship_anchor(site.audit_log, site.site.id, read_node_key(site.node.key), to, ca=ca)
    _say(f"{made.lines} lines of {site.audit_log}, signed by {made.key}, shipped to {to}")


@app.command()
def show(config: Config = None, log: Log = None, last: Last = 20, as_json: AsJson = False) -> None:
    """Show the newest entries; `verify` says whether they can be trusted."""
    from client.egress.audit.hash_chain import read_entries

    entries = deque(read_entries(_log_path(config, log)), maxlen=last)
    if as_json:
        for entry in entries:
            typer.echo(json.dumps(entry))
        return
    table = narrow_table("", ("time", "what", "decision", "reason"), ("no.", "bytes", "norm", "ε"))
    for entry in entries:
        adapter = entry.get("adapter") or {}
        table.add_row(
            str(entry["time"]),
            _what(entry),
            str(entry.get("decision", "")),
            escape(str(entry.get("detail") or entry.get("reason", ""))),
            str(entry.get("number", "")),
            _number(entry.get("bytes"), ",d"),
            _number(adapter.get("norm"), ".3g"),
            _number(entry.get("epsilon"), ".3g"),
        )
    output_console().print(table)


def _what(entry: dict[str, Any]) -> str:
    number = entry.get("round")
    return f"{entry.get('kind', '')} {number}" if number is not None else str(entry.get("kind", ""))


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _log_path(config: Path | None, log: Path | None, *, wanted: bool = True) -> Path:
    """Return the log's path; where it is not `wanted`, `verify` says what its absence means."""
    if config is not None and log is None:
        from client.config.site_config import load_site_config

        path = load_site_config(config).audit_log
    elif log is not None and config is None:
        path = log
    else:
        raise UsageError("give either --config site.toml or --log audit.jsonl")
    if wanted and not path.is_file():
        raise AuditError(f"there is no audit log at {path}; has a node ever run here?")
    return path


def _say(text: str) -> None:
    Console().print(text, soft_wrap=True, highlight=False, markup=False)
