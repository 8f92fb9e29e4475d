from __future__ import annotations

import re

from server.report.results import results_section
from server.runs.run_reader import RunRecord


def test_every_site_and_vital_sign_has_its_row(record: RunRecord) -> None:
    section = results_section(record.evaluation)
    (table,) = (
        table
        for part in section.parts
        for table in part.folded
        if table.caption.startswith("Every")
    )
    assert len(table.rows) == 3 * 7
    assert table.rows[0].label == "ccu: heart rate"
    assert len(re.findall(r"\[[^\]]+\]", " ".join(table.rows[0].cells))) == 2
