from __future__ import annotations

import html
import shlex
from itertools import pairwise
from pathlib import Path

from common.config.run_config import RunConfig, parse_settings
from server.report.provenance import reproduction_section, rerun_command
from server.runs.run_reader import RunRecord
from tests.server.report.samples import text_of


def test_the_command_gives_the_same_settings_again(record: RunRecord, tiny_bolt: Path) -> None:
    changed = {
        "lora.rank": 4,
        "privacy.epsilon": 2.5,
        "federation.weights": "ccu=2,micu=1,sicu=1",
        "seed": 7,
    }
    settings = RunConfig.parse({**record.settings, **changed}).flat()
    record.config["settings"] = settings
    record.config["sites"]["micu"]["rank"] = 2
    record.config["site_settings"] = {"sicu.patients": "5"}
    command = rerun_command(record)
    assert str(tiny_bolt.parent) not in command
    assert "/somewhere" not in command
    parts = shlex.split(command.replace("\\\n", " "))
    assert parts[:8] == shlex.split("python -m simulation run --data COHORT --out RUN")
    assert parts[8:10] == ["--backbone", f"path/to/{tiny_bolt.name}"]
    assert parts[-4:] == ["--site", "micu.lora-rank=2", "--site", "sicu.patients=5"]
    pairs = [value for flag, value in pairwise(parts) if flag == "-c"]
    again = parse_settings(pairs, {}).flat()
    own = ("data", "out", "backbone")
    assert {k: v for k, v in again.items() if k not in own} == {
        k: v for k, v in settings.items() if k not in own
    }


def test_digests_and_parameters_of_the_cohort_are_listed(record: RunRecord) -> None:
    text = html.unescape(text_of(reproduction_section(record)))
    assert "Source table WALKS" in text
    assert "0f" * 32 in text
    assert "ccu, micu, sicu" in text
    assert record.adapter.digest() in text


def test_an_evaluation_of_an_older_release_has_no_cohort_parameters(record: RunRecord) -> None:
    assert record.evaluation is not None
    del record.evaluation["cohort"]
    assert "How the cohort was prepared" not in text_of(reproduction_section(record))
