"""`python -m client audit`: the audit log, its verification and its anchors."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from client.cli.options import SiteFile
from common.config.default_file import default_file
from common.console import narrow_table, output_console, print_line
from common.errors import AuditError, UsageError

app = typer.Typer(help="Show, verify and anchor the site's audit log.", no_args_is_help=True)

_Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The site's site.toml. [default: site.toml here, in FEDVITALS_HOME or in "
        "/etc/fedvitals]",
    ),
]
_Log = Annotated[
    Path | None, typer.Option("--log", metavar="FILE", help="The log itself, instead of --config.")
]
_KnownAnchors = Annotated[
    list[str] | None,
    typer.Option(
        "--anchor",
        metavar="NUMBER:SHA256",
        help="An anchor that an earlier `verify` printed; repeatable.",
    ),
]
_Anchors = Annotated[
    Path | None,
    typer.Option(
        "--anchors", metavar="FILE", help="The signed anchors that `audit anchor` shipped."
    ),
]
_Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The node's public key, node.pub; repeatable. [default: that of site.toml's node.key]",
    ),
]
_To = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="FILE|URL",
        help="Where to ship it: a file on another machine or a write-once mount, or an https URL.",
    ),
]
_Authority = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="CA of the server's certificate. [default: the system's CAs]"
    ),
]
_Last = Annotated[int, typer.Option("--last", min=1, help="Number of entries, the newest last.")]
_AsJson = Annotated[bool, typer.Option("--json", help="Print the entries as JSON, one a line.")]


@app.command()
def verify(
    config: _Config = None,
    log: _Log = None,
    anchor: _KnownAnchors = None,
    anchors: _Anchors = None,
    key: _Keys = None,
) -> None:
    """Verify every line of the audit log and print its anchor.

    With --anchors: also verify that each shipped anchor is signed, that none is missing, and that
    the log still contains each. On another machine, a copy of the log and node.pub are enough.
    """
    from client.egress.audit.anchor_verification import verify_shipped
    from client.egress.audit.hash_chain import Anchor, verify_log

    if anchors is None and key:
        raise UsageError("--key verifies the signatures of --anchors; give both")
    shipped = verify_shipped(anchors, key or [], config) if anchors is not None else []
    path = _log_path(config, log, wanted=not shipped)
    kept = [Anchor.parse(text) for text in anchor or []]
    now = verify_log(path, *kept, *(one.anchor for one in shipped))
    print_line(f"{path}: {now.lines} lines, none changed, removed, added or moved")
    if shipped:
        newest = shipped[-1]
        print_line(
            f"{anchors}: {len(shipped)} anchors of {newest.site}, the newest of {newest.lines} "
            f"lines at {newest.time}; all are signed, none is missing, and the log holds each"
        )
    print_line(f"anchor: {now}")
    print_line(
        "Keep the anchor on another machine: whoever can write the log and the anchor beside it "
        "can truncate both, which only an anchor kept elsewhere (--anchor) reveals."
    )


@app.command()
def anchor(config: SiteFile, to: _To, ca: _Authority = None) -> None:
    """Sign the audit log's current anchor with the node's key and ship it.

    A log that is rewritten later, together with its anchor, contradicts the shipped one.
    """
    from client.config.node_key import read_node_key
    from client.config.site_config import load_site_config
    from client.egress.audit.anchor_shipping import ship_anchor

    site = load_site_config(config)
    _log_path(config, None)
    made = ship_anchor(site.audit_log, site.site.id, read_node_key(site.node.key), to, ca=ca)
    print_line(f"{made.lines} lines of {site.audit_log}, signed by {made.key}, shipped to {to}")


@app.command()
def show(
    config: _Config = None, log: _Log = None, last: _Last = 20, as_json: _AsJson = False
) -> None:
    """Show the newest entries of the audit log. `audit verify` checks their integrity."""
    from client.egress.audit.hash_chain import read_entries

    entries = deque(read_entries(_log_path(config, log)), maxlen=last)
    if as_json:
        for entry in entries:
            print_line(json.dumps(entry))
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
    if "statistics" in entry:
        return "statistics"
    number = entry.get("round")
    return f"{entry.get('kind', '')} {number}" if number is not None else str(entry.get("kind", ""))


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _log_path(config: Path | None, log: Path | None, *, wanted: bool = True) -> Path:
    """Return the log's path; `wanted`: it must exist."""
    if config is None and log is None:
        config = default_file("site.toml", "--config, or the log with --log")
    if config is not None and log is None:
        from client.config.site_config import load_site_config

        path = load_site_config(config).audit_log
    elif log is not None and config is None:
        path = log
    else:
        raise UsageError("give --config site.toml or --log audit.jsonl, not both")
    if wanted and not path.is_file():
        raise AuditError(f"there is no audit log at {path}; the node writes it at its first start")
    return path
