"""The synthetic hospital through the cohort code that reads MIMIC-III."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from common.data.cohort_writer import Cohort
from common.data.splits import SPLITS, assign_splits
from simulation.cohorts import synthetic
from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort
from simulation.cohorts.synthetic import write_synthetic_mimic
from simulation.cohorts.synthetic.events import Events
from simulation.cohorts.synthetic.units import CARE_UNITS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospital") / "tables"
    write_synthetic_mimic(folder)
    return folder


@pytest.fixture(scope="module")
def cohort(folder: Path) -> Cohort:
    return mimic3_cohort(folder, Mimic3Settings())


def stay_ids(cohort: Cohort) -> set[str]:
    return set(pd.concat(cohort.sites.values())["stay_id"].astype(str))


def test_default_cohort_fills_five_sites_in_every_split(cohort: Cohort) -> None:
    adults = next(step for step in cohort.flow.steps if "adult" in step.label).total
    assert cohort.flow.steps[0].total == 400
    assert cohort.flow.steps[-1].total >= 0.6 * adults
    assert set(cohort.sites) == {unit.lower() for unit in CARE_UNITS}
    for site, rows in cohort.sites.items():
        patients = rows["patient_id"].astype(str).unique()
        assert len(patients) >= 20, site
        assert set(assign_splits(patients)) == set(SPLITS), site


def test_every_kind_of_dirt_is_met_and_dropped(cohort: Cohort) -> None:
    assert len(cohort.dropped) >= 4
    assert all(cohort.dropped.values())


def test_sepsis3_finds_most_of_the_septic_and_few_others(folder: Path, cohort: Cohort) -> None:
    everyone = stay_ids(mimic3_cohort(folder, Mimic3Settings(sepsis="none")))
    found = stay_ids(mimic3_cohort(folder, Mimic3Settings(sepsis="sepsis3")))
    explicit = stay_ids(cohort)
    assert len(found & explicit) > 0.8 * len(explicit)
    assert len(everyone - found) > 0.3 * len(everyone - explicit)


@pytest.mark.parametrize("rule", ["angus", "martin"])
def test_some_sepsis_is_coded_for_one_rule_only(folder: Path, cohort: Cohort, rule: str) -> None:
    assert stay_ids(mimic3_cohort(folder, Mimic3Settings(sepsis=rule))) - stay_ids(cohort)


def test_noise_leaves_no_trace_in_sites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keep_clean(_: object, stays: pd.DataFrame, vitals: Events) -> Events:
        return vitals

    write_synthetic_mimic(tmp_path / "dirty", stays=120)
    monkeypatch.setattr(synthetic, "add_chart_errors", keep_clean)
    write_synthetic_mimic(tmp_path / "clean", stays=120)

    dirty, clean = (
        mimic3_cohort(tmp_path / name, Mimic3Settings()).sites for name in ("dirty", "clean")
    )

    assert dirty.keys() == clean.keys()
    for site, rows in clean.items():
        pd.testing.assert_frame_equal(dirty[site], rows, obj=site)
