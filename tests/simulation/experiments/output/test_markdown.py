from __future__ import annotations

import numpy as np

from common.reporting.phrasing import MINUS, NO_BREAK
from simulation.experiments.analysis.subgroups import Groups
from simulation.experiments.output.markdown import markdown_table
from tests.samples.experiments import analysis


def test_the_tables_hold_each_arm_and_each_site_against_every_reference() -> None:
    found = analysis(
        zero_shot={"a": [[10.0] * 4], "b": [[10.0] * 4]},
        local={"a": [[9.0] * 4], "b": [[10.0] * 4]},
        federated={"a": [[8.0] * 4, [9.0] * 4], "b": [[9.0] * 4, [9.0] * 4]},
    )
    text = markdown_table(found, ["What came out.", ""], "python -m simulation compare")
    text = text.replace(NO_BREAK, " ").replace(MINUS, "-")
    arms, against_zero_shot, against_local = text.split("\n\n")[1:4]
    # Of all patients, seed 0 has 8 or 9 in the place of 10, which is 15 % less, and seed 1 has 9.
    assert "| LoRA, federated | -12.50 % [" in arms
    assert "| -15.00 % to -10.00 % |" in arms
    assert "| Zero-shot | 0 | 0 |" in arms
    assert "| WQL vs Zero-shot | a, 40 patients | b, 40 patients |" in against_zero_shot
    # Patients of a site are alike here, so that drawing others changes nothing.
    alone = "| LoRA, each site alone | -10.00 % [-10.00, -10.00] | 0.00 % [0.00, 0.00] |"
    assert alone in against_zero_shot.replace("+", "").replace("-0.00", "0.00")
    assert "| Zero-shot |" not in against_zero_shot
    assert "| WQL vs LoRA, each site alone |" in against_local
    assert text.endswith("What came out.\n\n```\npython -m simulation compare\n```\n")


def test_groups_have_their_table_where_the_cohort_tells_them() -> None:
    found = analysis(
        Groups({"male patients": {"a": np.array([False, True, True])}}),
        zero_shot={"a": [[10.0, 10.0, 10.0]]},
        federated={"a": [[1.0, 9.0, 9.0]]},
    )
    text = markdown_table(found, [], "again").replace(NO_BREAK, " ").replace(MINUS, "-")
    heading, _, row = text.split("\n\n")[3].splitlines()
    assert heading == "| WQL vs Zero-shot | male patients (20) |"
    assert row == "| LoRA, federated | -10.00 % [-10.00, -10.00] |"
