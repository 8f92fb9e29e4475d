"""Steps that all sources share: build a cohort, write it, print its summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from common.console import error_console, output_console, print_line
from common.errors import UsageError
from common.files.paths import default_cohort_folder, use_cohort
from common.interrupts import left_when_stopped

if TYPE_CHECKING:
    from common.data.cohort_writer import Cohort


def prepare_cohort(
    source: str,
    parameters: Mapping[str, object],
    build: Callable[[], Cohort],
    out: Path | None,
    group: str,
    overwrite: bool,
    into: Path | None,
) -> None:
    """Build a cohort, write it, make it the current one and print its summary.

    Args:
        source: the source's name.
        parameters: the settings of the cohort, among them `step_minutes`.
        build: reads the source.
        out: the cohort folder; None = that of the source.
        group: a group that may read the cohort; empty = none.
        overwrite: whether another cohort in `out`, or of this source in `into`, may be replaced.
        into: folder of a joint cohort that gets the sites, in place of `out`.

    Raises:
        UsageError: both folders are given.
        CohortError: the folder has something that must not be lost.
    """
    from common.backbones.weights_store import install_packaged
    from common.data.cohort_folder import TABLE1_CSV, TABLE1_MARKDOWN
    from common.data.cohort_writer import check_free, write_cohort
    from common.data.exclusion_flow import flow_table
    from common.data.summary import sites_table
    from common.files.private import access_of, private_umask
    from common.reporting.characteristics import characteristics_page
    from simulation.cohorts.joint_cohort import JointFolder, sources_of_one_hospital

    if out is not None and into is not None:
        raise UsageError("give either --out or --into")
    access = access_of(group)
    folder = into or out or default_cohort_folder(source)
    joint = None if into is None else JointFolder(into, source, parameters, overwrite)
    if joint is None:
        check_free(folder, source, parameters, overwrite)
    else:
        joint.check()
    with left_when_stopped(f"nothing was written to {folder}"):
        with private_umask():
            cohort = build()
        if joint is None:
            record = write_cohort(cohort, folder, overwrite, access)
        else:
            record = write_cohort(joint.join(cohort), folder, overwrite=True, access=access)
    with left_when_stopped(f"the cohort is whole, in {folder}"):
        use_cohort(folder)
        # An app that Flower ships has no weights of its own: it loads these.
        install_packaged()
        console = output_console()
        console.print(flow_table(record["flow"], console.width))
        for what, counts in (("dropped", cohort.dropped), ("corrected", cohort.corrected)):
            if counts:
                text = ", ".join(f"{reason} {count:,}" for reason, count in counts.items())
                console.print(f"Measurements {what}: {text}")
        console.print(sites_table(folder))
        for part in characteristics_page(record["characteristics"], console.width):
            console.print(part)
        for warning in cohort.warnings:
            error_console().print(
                f"warning: {warning}", markup=False, highlight=False, soft_wrap=True
            )
        print_line(f"Table 1: {folder / TABLE1_MARKDOWN}, {folder / TABLE1_CSV}")
        same = sources_of_one_hospital(record["sites"]) if joint else []
        if same:
            error_console().print(
                f"warning: {', '.join(same)} can have the same persons, since their data are of "
                "one hospital: a person may be in the training of one and the test of another",
                markup=False,
                highlight=False,
            )
        print_line(f"Cohort: {folder}")
