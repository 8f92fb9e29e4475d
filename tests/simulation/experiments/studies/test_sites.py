from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from common.data.cohort_folder import site_table_paths
from common.data.site_table import read_site_table
from common.errors import CohortError
from simulation.experiments.studies.sites import random_split


def rows(cohort: Path) -> pd.DataFrame:
    tables = [read_site_table(path).frame for path in site_table_paths(cohort).values()]
    return pd.concat(tables).sort_values(["patient_id", "step"]).reset_index(drop=True)


@pytest.mark.parametrize("count", [2, 5])
def test_the_same_patients_are_dealt_to_sites_of_equal_size(
    tiny_cohort: Path, tmp_path: Path, count: int
) -> None:
    cohort = random_split(tiny_cohort, count, tmp_path)
    sizes = [
        read_site_table(path).frame["patient_id"].nunique()
        for path in site_table_paths(cohort).values()
    ]
    assert len(sizes) == count
    assert max(sizes) - min(sizes) <= 1
    # Nothing of a patient changes but his hospital: not his split either.
    pd.testing.assert_frame_equal(rows(cohort), rows(tiny_cohort))


def test_a_division_is_made_once(tiny_cohort: Path, tmp_path: Path) -> None:
    first = random_split(tiny_cohort, 2, tmp_path)
    times = [path.stat().st_mtime_ns for path in site_table_paths(first).values()]
    assert random_split(tiny_cohort, 2, tmp_path) == first
    assert [path.stat().st_mtime_ns for path in site_table_paths(first).values()] == times
    assert random_split(tiny_cohort, 3, tmp_path) != first


def test_what_cannot_be_dealt_is_refused(tiny_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="has 52 patients, too few for 53 sites"):
        random_split(tiny_cohort, 53, tmp_path)
    twice = tmp_path / "twice"
    shutil.copytree(tiny_cohort, twice)
    shutil.copy(twice / "sites" / "ccu.parquet", twice / "sites" / "other.parquet")
    with pytest.raises(CohortError, match="a patient at two sites"):
        random_split(twice, 2, tmp_path)
