"""Report of a run as one HTML page: its head, and the sections in their order."""

from __future__ import annotations

from collections.abc import Sequence

from common.reporting.components import Page, render_page
from server.report.calibration import calibration_section
from server.report.cohort import cohort_section
from server.report.data_transfer import data_transfer_section, refusals_section
from server.report.example_forecasts import Example, example_forecasts_section
from server.report.learning_curves import learning_curves_section
from server.report.privacy import privacy_section
from server.report.provenance import reproduction_section, setup_section
from server.report.results import results_section
from server.report.summary import headline, summary_section, tiles, title
from server.runs.run_reader import RunRecord


def render_report(record: RunRecord, examples: Sequence[Example] = ()) -> str:
    """Return the report as a self-contained HTML page; arguments as for `report_page`."""
    return render_page(report_page(record, examples))


def report_page(record: RunRecord, examples: Sequence[Example] = ()) -> Page:
    """Return the report, for the page and for an export of its tables and figures.

    Args:
        record: the run.
        examples: forecasts to show; they hold values of patients.
    """
    evaluated = record.evaluation is not None
    sections = [
        summary_section(record),
        results_section(record.evaluation),
        calibration_section(record.evaluation),
        example_forecasts_section(examples, record.step_minutes, evaluated=evaluated),
        learning_curves_section(record),
        cohort_section(record),
        data_transfer_section(record),
        privacy_section(record, examples=bool(examples)),
        refusals_section(record),
        setup_section(record),
        reproduction_section(record),
    ]
    return Page(
        title=title(record),
        headline=headline(record),
        tiles=tiles(record),
        sections=[section for section in sections if section is not None],
    )
