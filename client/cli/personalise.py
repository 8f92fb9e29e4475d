"""`python -m client personalise`: further training of a released adapter for one site."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from common.config.run_config import split_pairs
from common.console import AdapterPath, narrow_table, output_console, print_line, working
from common.interrupts import left_when_stopped

_Data = Annotated[
    Path, typer.Option(metavar="DIR", help="A folder made by `ingest`, or a site table.")
]
_Out = Annotated[
    Path, typer.Option(metavar="DIR", help="The folder to write. It stays at the site.")
]
_Passes = Annotated[int, typer.Option(help="Passes over the site's training windows.")]
_Backbone = Annotated[
    str | None,
    typer.Option(
        help="Name or folder of the backbone. Required for an adapter that PEFT saved. "
        "[default: the adapter's]"
    ),
]
_Settings = Annotated[
    list[str] | None,
    typer.Option(
        "-c", "--set", metavar="KEY=VALUE", help="A setting `train.*` or `seed`; repeatable."
    ),
]


def personalise(
    adapter: AdapterPath,
    data: _Data = Path("site"),
    out: _Out = Path("personal"),
    passes: _Passes = 5,
    backbone: _Backbone = None,
    settings: _Settings = None,
) -> None:
    """Train a released adapter further for this site and keep the better of the two.

    Validation patients choose between the two; test patients measure the result. Nothing is sent.
    """
    overrides = split_pairs(settings or [], {})
    kept = f"nothing was written to {out}"
    with left_when_stopped(kept), working("loading") as update:
        import torch

        from client.app.personalization import (
            check_empty,
            check_steps,
            read_release,
            run_personalization,
            write_personalised,
        )
        from common.data.cohort_folder import single_site_table
        from common.data.site_table import read_site_table

        check_empty(out)
        release, config, step_minutes = read_release(adapter, overrides, backbone)
        table = read_site_table(single_site_table(data))
        check_steps(table, step_minutes)
        if config.train.threads:
            torch.set_num_threads(config.train.threads)
        made = run_personalization(release, config, table, passes=passes, progress=update)
        write_personalised(made, table, out)
    output_console().print(_comparison_table(made.record))
    print_line(_verdict(made.record))
    print_line(f"Written: {out}")


def _comparison_table(record: Mapping[str, Any]) -> Table:
    from common.data.vitals import VITALS

    test = record["test"]
    counts = test["global"]["mean"]
    table = narrow_table(
        f"WQL (lower is better), {counts['patients']:,} test patients, "
        f"{counts['windows']:,} windows",
        ["vital sign"],
        ("global", "personal", "difference", "95 % interval"),
    )
    for vital in VITALS:
        if vital.name in test["global"]["vitals"]:
            scores = [test[name]["vitals"][vital.name]["wql"] for name in ("global", "personal")]
            relative = test["difference"]["vitals"][vital.name]["wql"]["relative"]
            table.add_row(vital.label, *map(_score, scores), *_percents(relative))
    scores = [test[name]["mean"]["wql"] for name in ("global", "personal")]
    relative = test["difference"]["mean"]["wql"]["relative"]
    table.add_row("mean", *map(_score, scores), *_percents(relative))
    return table


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percents(interval: Mapping[str, float | None]) -> tuple[str, str]:
    texts = [
        "-" if value is None else f"{100 * value:+.2f}"
        for value in (interval["estimate"], interval["low"], interval["high"])
    ]
    return f"{texts[0]} %", f"{texts[1]}, {texts[2]}"


def _verdict(record: Mapping[str, Any]) -> str:
    before, best = record["validation_wql"][0], record["validation_wql"][record["pass"]]
    chosen = (
        f"chosen by {record['chosen_on']['patients']:,} validation patients: WQL {before:.4f} "
        f"released, {best:.4f} after pass {record['pass']}"
    )
    if record["kept"] == "personal":
        return f"Kept: the personal adapter ({chosen})."
    return f"Kept: the released adapter, which training here did not improve ({chosen})."
