"""Age band and sex of a cohort's patients, for results by subgroup.

    OUT/patients.parquet   patient_id, age_band, sex

They are kept out of the site tables: no model is trained on them, and a hospital's own site table
has neither column.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from common.data.cohort_folder import PATIENTS_FILE
from common.errors import CohortError

AGE_BANDS = {"18-44": 18, "45-64": 45, "65-79": 65, "80+": 80}
"""Age bands in whole years, with the age at which each begins."""
SEXES = ("female", "male")
PATIENT_COLUMNS = ("patient_id", "age_band", "sex")


def describe_patients(stays: pd.DataFrame) -> pd.DataFrame:
    """Return age band and sex of each patient, from the patient's first stay.

    Args:
        stays: one row per stay, a patient's first one first: `patient_id`, `age` in years, and
            `sex` (one of `SEXES`; anything else = unknown).

    Returns:
        One row per patient, sorted by id: `patient_id`, `age_band` and `sex`, empty if unknown.
    """
    firsts = stays.drop_duplicates("patient_id").sort_values("patient_id")
    begins = [*AGE_BANDS.values(), np.inf]
    bands = pd.cut(firsts["age"].astype(float), begins, right=False, labels=list(AGE_BANDS))
    return pd.DataFrame(
        {
            "patient_id": firsts["patient_id"].astype(str),
            "age_band": bands.astype(object).fillna(""),
            "sex": firsts["sex"].where(firsts["sex"].isin(SEXES), ""),
        }
    ).reset_index(drop=True)


def write_patients(patients: pd.DataFrame, path: Path) -> None:
    """Write the frame of `describe_patients`; equal frames give equal bytes."""
    columns = {name: pa.array(patients[name], pa.string()) for name in PATIENT_COLUMNS}
    pq.write_table(pa.table(columns), path)


def read_patients(folder: Path) -> pd.DataFrame | None:
    """Read age band and sex of the patients of a cohort folder.

    Returns:
        `PATIENT_COLUMNS`, all text, or None where the source had neither age nor sex.

    Raises:
        CohortError: the file cannot be read, or has a patient twice.
    """
    path = folder / PATIENTS_FILE
    if not path.exists():
        return None
    try:
        frame: pd.DataFrame = pq.read_table(path, columns=list(PATIENT_COLUMNS)).to_pandas()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise CohortError(
            f"{path} cannot be read ({error}); prepare the cohort again with --overwrite"
        ) from error
    if frame["patient_id"].duplicated().any():
        raise CohortError(f"{path} has a patient twice; prepare the cohort again with --overwrite")
    return frame
