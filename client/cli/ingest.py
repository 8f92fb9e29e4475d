"""`python -m client ingest`: conversion of a hospital's table to the site table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.console import byte_progress, narrow_table, output_console, print_line

_Tables = Annotated[
    list[Path] | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="The table: .csv, .csv.gz or .parquet; repeatable for files with the same columns. "
        "Omit it if the mapping has a query.",
        show_default=False,
    ),
]
_MappingFile = Annotated[
    Path,
    typer.Option("--mapping", metavar="FILE", help="The mapping of the table's columns (TOML)."),
]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="The folder to write.")]
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


def ingest(
    mapping: _MappingFile,
    out: _Out,
    table: _Tables = None,
    secret: _Secret = None,
    memory_gb: _MemoryGb = 2.0,
    overwrite: _Overwrite = False,
) -> None:
    """Convert a hospital's table to the site table; list what was left out and why."""
    from client.ingest.mapping import read_mapping
    from client.ingest.pipeline import ingest_tables
    from client.ingest.pseudonyms import default_secret
    from client.site_split.split_findings import split_findings
    from common.data.exclusion_flow import flow_table
    from common.data.summary import sites_table

    settings = read_mapping(mapping)
    with byte_progress("reading the table") as progress:
        record = ingest_tables(
            settings,
            table or [],
            out,
            secret=secret or default_secret(),
            overwrite=overwrite,
            memory_gb=memory_gb,
            progress=progress,
        )
    console = output_console()
    rows = ", ".join(f"{count:,} {what}" for what, count in record["rows"].items())
    print_line(f"Rows: {rows}")
    console.print(flow_table(record["flow"]))
    console.print(measurements_table(record["measurements"]))
    for column, count in record["ids_not_found"].items():
        if count:
            what = column.removesuffix("_id")
            console.print(f"{count:,} ids of the list are no {what} of this table", style="yellow")
    console.print(sites_table(out))
    facts = record.get("split")
    if facts:
        print_line(f"Split: {facts['rule']}")
    for finding in split_findings(facts, record["table"]["patients_per_split"]):
        # Without markup, which would take [split] for a style.
        line = f"{finding.severity}: {finding.what}; {finding.remedy}"
        console.print(line, style="yellow", markup=False)
    print_line(f"Written: {out}")
    print_line(f"Check it with: python -m client check {out}")


def measurements_table(counts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the measurements read, dropped by reason, and used: a column per vital sign."""
    from client.ingest.reshape import DROP_REASONS
    from common.data.site_table import VITALS

    vitals = [vital for vital in VITALS if vital.name in counts]
    table = narrow_table("Measurements", ["what"], [vital.short for vital in vitals])
    for what in ("read", *DROP_REASONS, "used"):
        numbers = [int(counts[vital.name].get(what, 0)) for vital in vitals]
        if any(numbers) or what == "used":
            table.add_row(what, *(f"{number:,}" for number in numbers))
    return table
