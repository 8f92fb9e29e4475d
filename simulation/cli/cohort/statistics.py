"""`python -m simulation statistics`: what a cohort's sites would send before the first round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import output_console, print_line
from common.data.statistics.reply import LEAST_THRESHOLD
from common.reporting.small_cells import LEAST_COUNT

_Data = Annotated[Path | None, typer.Option(help="Cohort folder. [default: the one prepared last]")]
_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for statistics.json and its page.")]
_Threshold = Annotated[
    int, typer.Option(min=LEAST_THRESHOLD, help="Fewest patients behind a count, without noise.")
]
_Epsilon = Annotated[
    float, typer.Option(min=0.0, help="Epsilon of each site's counts, 0.01 to 10; 0 = exact.")
]
_Delta = Annotated[float, typer.Option(help="Delta of that guarantee.")]


def statistics(
    out: _Out,
    data: _Data = None,
    threshold: _Threshold = LEAST_COUNT,
    epsilon: _Epsilon = 0.0,
    delta: _Delta = 1e-5,
) -> None:
    """Count each site as its node would, and compare the sites. Nothing is trained.

    With --epsilon each call draws new noise, as a site's next paid answer would.
    """
    from common.files.paths import current_cohort
    from server.statistics_run.output import (
        check_statistics_folder,
        read_statistics,
        statistics_table,
        write_page,
        write_statistics,
    )
    from simulation.engines.statistics import cohort_statistics

    check_statistics_folder(out)
    sites = cohort_statistics(data or current_cohort(), threshold, epsilon, delta)
    write_statistics(out, sites, {})
    found = read_statistics(out)
    page = write_page(out, found)
    output_console().print(statistics_table(found))
    print_line(f"Page: {page}")
