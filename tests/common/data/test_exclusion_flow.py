from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from common.data.exclusion_flow import ExclusionFlow, flow_table


def made() -> ExclusionFlow:
    stays = pd.DataFrame({"unit": ["micu", "micu", "ccu"], "patient_id": ["1", "2", "2"]})
    flow = ExclusionFlow()
    flow.record("all", stays)
    flow.record("sick", stays[stays["unit"] == "micu"])
    return flow


def test_each_rule_states_what_it_took_away() -> None:
    first, second = made().to_json()
    assert first == {
        "label": "all",
        "stays": 3,
        "excluded": 0,
        "patients": 2,
        "stays_per_unit": {"ccu": 1, "micu": 2},
    }
    assert (second["excluded"], second["stays"], second["patients"]) == (1, 2, 2)


def test_the_table_fits_eighty_columns_with_five_units() -> None:
    units = ["ccu", "csru", "micu", "sicu", "tsicu"]
    stays = pd.DataFrame({"unit": units, "patient_id": units})
    flow = ExclusionFlow()
    flow.record("in the patient's first kept unit", stays)
    text = io.StringIO()
    Console(file=text, width=80).print(flow_table(flow.to_json(), 80))
    assert all(name in text.getvalue() for name in units)
    assert "…" not in text.getvalue()


@pytest.mark.parametrize("number", [5, 186])
def test_units_that_do_not_fit_leave_the_rules_readable(number: int) -> None:
    units = [f"region-north-{n}" for n in range(number)]
    flow = ExclusionFlow()
    flow.record("ICU stays in the source", pd.DataFrame({"unit": units, "patient_id": units}))
    text = io.StringIO()
    Console(file=text, width=80).print(flow_table(flow.to_json(), 80))
    assert "ICU stays in the source" in text.getvalue()
    assert "region" not in text.getvalue()
    assert f"The {number} columns of stays by site do not fit" in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 80
