"""`python -m client ingest`: conversion of a hospital's table to the site table."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.console import byte_progress, narrow_table, output_console, print_line
from common.errors import UsageError
from common.interrupts import left_when_stopped

_Files = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILES", help="The files, as with --table.", show_default=False),
]
_Tables = Annotated[
    list[Path] | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="The table: delimited text, NDJSON, Parquet, Excel or OpenDocument; text may be "
        "compressed. Repeatable for files with the same columns. Omit it if the mapping "
        "has a query.",
        show_default=False,
    ),
]
_MappingFile = Annotated[
    Path,
    typer.Option("--mapping", metavar="FILE", help="The mapping of the table's columns (TOML)."),
]
_Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="The folder to write.", show_default=False)
]
_Suggest = Annotated[
    bool,
    typer.Option(
        "--suggest",
        help="Write a first --mapping from the files' headers and values, to be completed; "
        "a table of stays may be among the files.",
    ),
]
_Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the table in --out.")]
_MemoryGb = Annotated[float, typer.Option(help="Memory limit of the queries, in GB.")]
_Secret = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The secret for `[ids] hash`. [default: FEDVITALS_HOME/site/id-secret]",
        show_default=False,
    ),
]
_Group = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="A group that may read the site table. [default: its owner alone]",
        show_default=False,
    ),
]


def ingest(
    files: _Files = None,
    mapping: _MappingFile = Path("mapping.toml"),
    out: _Out = None,
    table: _Tables = None,
    suggest: _Suggest = False,
    secret: _Secret = None,
    group: _Group = "",
    memory_gb: _MemoryGb = 2.0,
    overwrite: _Overwrite = False,
) -> None:
    """Convert a hospital's table to the site table; list what was left out and why.

    With --suggest, write a first mapping instead.
    """
    tables = [*(files or []), *(table or [])]
    if suggest:
        _suggest(tables, mapping)
        return
    if out is None:
        raise UsageError("--out is missing; give the folder to write the site table to")
    from client.data_quality.finding import render_finding
    from client.data_quality.record_checks import find_in_record
    from client.ingest.mapping.site_mapping import read_mapping
    from client.ingest.pipeline.pipeline import ingest_tables
    from client.ingest.pseudonyms import default_secret
    from client.site_split.split_findings import split_findings
    from common.data.exclusion_flow import flow_table
    from common.data.summary import sites_table
    from common.files.private import access_of
    from common.reporting.characteristics import characteristics_page

    settings = read_mapping(mapping)
    kept = f"nothing was written to {out}"
    with left_when_stopped(kept), byte_progress("reading the table") as progress:
        record = ingest_tables(
            settings,
            tables,
            out,
            secret=secret or default_secret(),
            access=access_of(group),
            overwrite=overwrite,
            memory_gb=memory_gb,
            progress=progress,
        )
    with left_when_stopped(f"the table is whole, in {out}"):
        console = output_console()
        rows = ", ".join(f"{count:,} {what}" for what, count in record["rows"].items())
        print_line(f"Rows: {rows}")
        if found := record.get("stay_table"):
            counts = ", ".join(f"{count:,} {what}" for what, count in found.items())
            print_line(f"Rows of the table of stays: {counts}")
        console.print(flow_table(record["flow"], console.width))
        console.print(measurements_table(record["measurements"]))
        console.print(sites_table(out))
        for part in characteristics_page(record["characteristics"], console.width):
            console.print(part)
        facts = record.get("split")
        if facts:
            print_line(f"Split: {facts['rule']}")
        findings = split_findings(facts, record["table"]["patients_per_split"])
        for finding in (*findings, *find_in_record(record)):
            console.print(render_finding(finding))
        print_line(f"Written: {out}")
        print_line(f"Check it with: python -m client check {out}")


def _suggest(tables: list[Path], mapping: Path) -> None:
    from client.ingest.suggest.suggestion import suggest_mapping, write_suggestion

    if not tables:
        raise UsageError("no file is given; name the files to suggest a mapping for")
    found = suggest_mapping(tables, mapping.absolute().parent)
    write_suggestion(found, mapping)
    print_line(f"Written: {mapping} ({found.shape} table; vital signs: {', '.join(found.vitals)})")
    if found.ready:
        print_line(f"These are columns of a common layout: {found.ready} is a ready mapping for it")
    print_line(f"Confirm its {found.todos} lines marked TODO, then run:")
    shown = " ".join(shlex.quote(str(path)) for path in found.tables[:3])
    more = f" ... ({len(found.tables)} files)" if len(found.tables) > 3 else ""
    print_line(
        f"python -m client ingest {shown}{more} --mapping {shlex.quote(str(mapping))} "
        "--out site-table"
    )


def measurements_table(counts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the measurements read, dropped by reason, and used: a column per vital sign."""
    from client.ingest.reshape.drop_reasons import DROP_REASONS
    from common.data.vitals import VITALS

    vitals = [vital for vital in VITALS if vital.name in counts]
    table = narrow_table("Measurements", ["what"], [vital.short for vital in vitals])
    for what in ("read", *DROP_REASONS, "used"):
        numbers = [int(counts[vital.name].get(what, 0)) for vital in vitals]
        if any(numbers) or what == "used":
            table.add_row(what, *(f"{number:,}" for number in numbers))
    return table
