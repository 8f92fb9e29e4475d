"""`python -m server statistics`: statistics of the connected sites, before the first round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.config.run_config import FederationConfig, RunConfig
from common.console import output_console, print_line
from common.errors import FederationError, StatisticsError
from common.interrupts import left_when_stopped
from common.names import printable
from server.cli.run import PATIENCE_S
from server.cli.services import OperatorFile, ServerFile
from server.deployment.server_config import read_server_config
from server.deployment.site_keys import SiteKeys
from server.deployment.supervisor import flower_of, running

_Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for statistics.json and its page.")]
_Wait = Annotated[
    float,
    typer.Option("--wait", metavar="SECONDS", min=1.0, help="Longest wait for the sites' replies."),
]


def statistics(
    config: ServerFile, out: _Out, wait: _Wait = 300.0, operator: OperatorFile = None
) -> None:
    """Ask every site for statistics of its table, and compare the sites. Nothing is trained.

    A site's own policy decides whether its node answers, without small counts or with noise. Exit
    code 0 if at least one site has.
    """
    from server.statistics_run.output import (
        STATISTICS_FILE,
        check_statistics_folder,
        read_statistics,
        statistics_stamp,
        statistics_table,
        write_page,
    )

    server = read_server_config(config)
    folder = out.absolute()
    check_statistics_folder(folder)
    if not running(server.state):
        raise FederationError(
            f"the services are not running; start them: python -m server start --config {config}"
        )
    flower = flower_of(server, operator)
    # It waits for every registered site, and no longer than that.
    sites = max(1, len(SiteKeys(server.state, None).names()))
    federation = FederationConfig(min_sites=sites, wait_s=wait)
    settings = RunConfig(statistics=True, out=str(folder), federation=federation)
    earlier = statistics_stamp(folder)
    with left_when_stopped("the request may be under way; see: python -m server status"):
        number = flower.start_run(server.app, settings.flat())
    with left_when_stopped(f"run {number} continues, and writes {folder / STATISTICS_FILE}"):
        flower.finish(number, None, PATIENCE_S)
    if statistics_stamp(folder) == earlier:
        raise StatisticsError(f"run {number} has not written {folder / STATISTICS_FILE}")
    found = read_statistics(folder)
    page = write_page(folder, found)
    for name, reason in found["refused"].items():
        print_line(f"{name} has sent no statistics: {printable(reason)}")
    output_console().print(statistics_table(found))
    print_line(f"Page: {page}")
