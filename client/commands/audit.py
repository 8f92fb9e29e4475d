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
    str | None,
    typer.Option(
        "--anchor",
        metavar="NUMBER:SHA256",
        help="An anchor that an earlier verify printed and that was kept elsewhere.",
    ),
]
Last = Annotated[int, typer.Option("--last", min=1, help="How many entries, the newest last.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the entries as they are.")]


@app.command()
def verify(config: Config = None, log: Log = None, anchor: Kept = None) -> None:
    """Check every line of the audit log, and print its anchor to keep elsewhere."""
    from client.site.audit import Anchor, verify

    path = _log_path(config, log)
    now = verify(path, None if anchor is None else Anchor.parse(anchor))
    _say(f"{path}: {now.lines} lines, none changed, removed, added or moved")
    _say(f"anchor: {now}")
    _say(
        "Keep the anchor away from this machine. Whoever can write the log and the anchor beside "
        "it could cut both off; only an anchor kept elsewhere (--anchor) shows that."
    )


@app.command()
def show(config: Config = None, log: Log = None, last: Last = 20, as_json: AsJson = False) -> None:
    """Show the newest entries; `verify` says whether they can be trusted."""
    from client.site.audit import read_entries

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


def _log_path(config: Path | None, log: Path | None) -> Path:
    if (config is None) == (log is None):
        raise UsageError("give either --config site.toml or --log audit.jsonl")
    if config is not None:
        from client.site.config import load_site_config

        log = load_site_config(config).audit_log
    assert log is not None
    if not log.is_file():
        raise AuditError(f"there is no audit log at {log}; has a node ever run here?")
    return log


def _say(text: str) -> None:
    Console().print(text, soft_wrap=True, highlight=False, markup=False)
