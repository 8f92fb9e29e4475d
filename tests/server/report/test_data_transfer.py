from __future__ import annotations

from common.adapter.adapter import Adapter
from server.report.data_transfer import data_transfer_section
from server.runs.run_reader import RunRecord
from tests.server.report.samples import text_of


def test_items_that_left_have_the_names_of_the_egress_policy(
    record: RunRecord, trained_adapter: Adapter
) -> None:
    text = text_of(data_transfer_section(record))
    for name in ("validation.wql, validation.wql.spo2", "seconds.training", "validation-windows"):
        assert name in text
    for module in trained_adapter.modules:
        assert module in text
    record.config["sites"]["ccu"]["patients"] = None
    assert "validation-windows" not in text_of(data_transfer_section(record))
