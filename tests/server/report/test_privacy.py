from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.config.run_config import RunConfig
from server.report.privacy import guarantee_paragraphs, privacy_section
from server.runs.run_reader import RunRecord
from tests.server.report.samples import text_of


def guarantee_of(**settings: Any) -> str:
    config = RunConfig.parse({"privacy.epsilon": 1.0, **settings})
    return " ".join(guarantee_paragraphs(cast(RunRecord, SimpleNamespace(settings=config.flat()))))


def test_the_guarantee_names_what_it_does_not_cover_and_the_declared_divisor() -> None:
    text = guarantee_of()
    assert "adding or removing one patient" in text
    assert "the time at which a reply arrives" in text
    assert "a number of patients that the site declares; neighbouring tables have the same" in text
    assert "public" not in text


@pytest.mark.parametrize(("seed", "warned"), [(-1, False), (0, True), (7, True)])
def test_noise_from_a_known_seed_is_called_no_protection(seed: int, warned: bool) -> None:
    assert ("no protection" in guarantee_of(**{"privacy.noise-seed": seed})) is warned


def test_the_section_states_whether_the_report_shows_values_of_patients(record: RunRecord) -> None:
    shown, withheld = (text_of(privacy_section(record, examples=shows)) for shows in (True, False))
    assert "measured values of single patients" in shown
    assert "no measured value of a patient" in withheld
    assert "This was a simulation" in shown
    assert re.search(r"as few as \d+ patients? \(\w+\)", shown)
    record.config["settings"]["data"] = ""
    assert "simulation" not in text_of(privacy_section(record, examples=False))
