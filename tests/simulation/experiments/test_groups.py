from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from common.cohort_folder import PATIENTS_FILE
from common.config import RunConfig
from common.splits import split_of
from common.vitals import read_site_table
from simulation.experiments.groups import LEAST_PATIENTS, groups_of
from simulation.patients import describe_patients, write_patients

SITES = ("ccu", "micu", "sicu")


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


def those_tested(config: RunConfig, site: str) -> list[str]:
    """The test patients, each of whom has windows in this cohort."""
    table = read_site_table(Path(config.data) / "sites" / f"{site}.parquet")
    return [p for p in table.frame["patient_id"].unique() if split_of(p) == "test"]


def test_members_stand_in_the_order_of_the_scores(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulation.experiments.groups.LEAST_PATIENTS", 1)
    groups = groups_of(config)
    assert list(groups.members) == ["age 45-64", "age 65-79", "female", "male"]
    assert groups.too_small == {"age 18-44": 0, "age 80+": 0}
    for site in SITES:
        patients = those_tested(config, site)
        female = np.array([int(patient) % 2 == 0 for patient in patients])
        np.testing.assert_array_equal(groups.members["female"][site], female)
        np.testing.assert_array_equal(groups.members["male"][site], ~female)
        assert groups.members["age 45-64"][site].all() == (site == "micu")


def test_a_small_group_is_counted_and_not_compared(config: RunConfig) -> None:
    count = sum(len(those_tested(config, site)) for site in ("ccu", "sicu"))
    assert count < LEAST_PATIENTS
    assert groups_of(config).too_small["age 65-79"] == count


def test_a_source_that_tells_nothing_gives_no_groups(tiny_cohort: Path) -> None:
    groups = groups_of(RunConfig.parse({"data": str(tiny_cohort)}))
    assert not groups.members
    assert not groups.too_small
