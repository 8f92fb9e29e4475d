from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from common.data.cohort_folder import PATIENTS_FILE
from common.data.demographics import (
    AGE_BANDS,
    describe_patients,
    read_patients,
    write_patients,
)
from common.errors import CohortError


def test_a_patient_is_described_by_his_or_her_first_stay() -> None:
    stays = pd.DataFrame(
        {
            "patient_id": ["9", "10", "9"],
            "age": [64, 80, 65],
            "sex": ["female", "male", "female"],
        }
    )
    assert describe_patients(stays).to_dict("records") == [
        {"patient_id": "10", "age_band": "80+", "sex": "male"},
        {"patient_id": "9", "age_band": "45-64", "sex": "female"},
    ]


def test_a_band_begins_at_its_age_and_ends_below_the_next() -> None:
    ages = [18, 44.9, 45, 64, 65, 79, 80, 310]
    stays = pd.DataFrame({"patient_id": list("abcdefgh"), "age": ages, "sex": "male"})
    bands = describe_patients(stays)["age_band"].tolist()
    assert bands == [band for band in AGE_BANDS for _ in range(2)]


def test_what_is_not_known_is_empty() -> None:
    stays = pd.DataFrame({"patient_id": ["1"], "age": [float("nan")], "sex": ["?"]})
    assert describe_patients(stays).to_dict("records") == [
        {"patient_id": "1", "age_band": "", "sex": ""}
    ]


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    stays = pd.DataFrame({"patient_id": ["1", "2"], "age": [50, 70], "sex": ["male", ""]})
    patients = describe_patients(stays)
    write_patients(patients, tmp_path / PATIENTS_FILE)
    again = read_patients(tmp_path)
    assert again is not None
    pd.testing.assert_frame_equal(again, patients)
    assert read_patients(tmp_path / "elsewhere") is None


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / PATIENTS_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(CohortError, match=r"patients\.parquet cannot be read.*--overwrite"):
        read_patients(tmp_path)


def test_a_patient_who_is_named_twice_is_refused(tmp_path: Path) -> None:
    twice = pd.DataFrame({"patient_id": ["1", "1"], "age_band": ["80+", ""], "sex": ["", "male"]})
    write_patients(twice, tmp_path / PATIENTS_FILE)
    with pytest.raises(CohortError, match="has a patient twice"):
        read_patients(tmp_path)
