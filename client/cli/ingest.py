"""`python -m client ingest`: a hospital's own table becomes the site table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.console import byte_progress, narrow_table, output_console

Tables = Annotated[
    list[Path] | None,
    typer.Option(
        "--table",
        help="The table, .csv, .csv.gz or .parquet; again for further files of the same columns. "
        "Left out where the mapping names a query.",
        show_default=False,
    ),
]
MappingFile = Annotated[Path, typer.Option("--mapping", help="How the table is read (TOML).")]
Out = Annotated[Path, typer.Option(help="The folder to write.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another table there.")]
MemoryGb = Annotated[float, typer.Option(help="Bound on the memory of the queries, in GB.")]
Secret = Annotated[
    Path | None,
    typer.Option(
        help="The file of the secret for [ids] hash. [default: FEDVITALS_HOME/site/id-secret]",
        show_default=False,
    ),
]


def ingest(
    mapping: MappingFile,
    out: Out,
    table: Tables = None,
    secret: Secret = None,
    memory_gb: MemoryGb = 2.0,
    overwrite: Overwrite = False,
) -> None:
    """Turn a hospital's own table into the site table, and say what was left out and why."""
    from client.ingest.mapping import read_mapping
    from client.ingest.pipeline import ingest_tables
    from client.ingest.pseudonyms import default_secret
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
    console.print(f"Rows: {rows}", highlight=False)
    console.print(flow_table(record["flow"]))
    console.print(measurements_table(record["measurements"]))
    for column, count in record["ids_not_found"].items():
        if count:
            what = column.removesuffix("_id")
            console.print(f"{count:,} ids of the list are no {what} of this table", style="yellow")
    console.print(sites_table(out))
    console.print(f"Written: {out}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"Look at it with: python -m client check {out}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def measurements_table(counts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Draw what became of the measurements: a row a reason, a column a vital sign."""
    from client.ingest.reshape import DROP_REASONS
    from common.data.site_table import VITALS

    vitals = [vital for vital in VITALS if vital.name in counts]
    table = narrow_table("Measurements", ["what"], [vital.short for vital in vitals])
    for what in ("read", *DROP_REASONS, "used"):
        numbers = [int(counts[vital.name].get(what, 0)) for vital in vitals]
        if any(numbers) or what == "used":
            table.add_row(what, *(f"{number:,}" for number in numbers))
    return table
