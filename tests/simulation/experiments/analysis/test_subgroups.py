from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.config.run_config import RunConfig
from common.data.cohort_folder import PATIENTS_FILE
from common.data.demographics import describe_patients, write_patients
from common.data.site_table import read_site_table
from common.evaluation.bootstrap import LEAST_PATIENTS
from simulation.experiments.analysis.subgroups import groups_of
from simulation.experiments.models.scoring import cohort_windows

SITES = ("ccu", "micu", "sicu")
SEXES = ("female patients", "male patients")


@pytest.fixture
def config(tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    """Even patients are women; those of micu are 50 years old, the others 70."""
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    tables = {site: read_site_table(folder / "sites" / f"{site}.parquet") for site in SITES}
    stays = pd.DataFrame(
        [
            {
                "patient_id": patient,
                "age": 50 if site == "micu" else 70,
                "sex": "male" if int(patient) % 2 else "female",
            }
            for site, table in tables.items()
            for patient in table.frame["patient_id"].unique()
        ]
    )
    write_patients(describe_patients(stays), folder / PATIENTS_FILE)
    return RunConfig.parse({"data": str(folder), "windows.context": 24})


def those_tested(config: RunConfig, site: str) -> tuple[str, ...]:
    """The test patients in the order of every evaluation."""
    return cohort_windows(config)[site].test.patient_ids


def test_members_stand_in_the_order_of_the_scores(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.experiments.analysis.subgroups.LEAST_PATIENTS", 1)
    groups = groups_of(config)
    assert list(groups.members) == [
        *(f"patients aged {band}" for band in ("45-64", "65-79")),
        *SEXES,
    ]
    assert groups.too_small == []
    for site in SITES:
        patients = those_tested(config, site)
        female = np.array([int(patient) % 2 == 0 for patient in patients])
        np.testing.assert_array_equal(groups.members["female patients"][site], female)
        np.testing.assert_array_equal(groups.members["male patients"][site], ~female)
        assert groups.members["patients aged 45-64"][site].all() == (site == "micu")


def test_a_small_group_is_named_and_not_compared(config: RunConfig) -> None:
    count = sum(len(those_tested(config, site)) for site in ("ccu", "sicu"))
    assert count < LEAST_PATIENTS
    assert "patients aged 65-79" in groups_of(config).too_small


def test_a_source_that_tells_nothing_gives_no_groups(tiny_cohort: Path) -> None:
    groups = groups_of(RunConfig.parse({"data": str(tiny_cohort)}))
    assert not groups.members
    assert not groups.too_small
