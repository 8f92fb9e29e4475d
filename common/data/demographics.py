"""Age band and sex of a cohort's patients: what results are told by, and no model ever sees.

    OUT/patients.parquet   patient_id, age_band, sex

It lies beside the site tables and not in them. A site table is what is trained on, and a hospital's
own has neither column: what is not in it cannot leave with it.
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
"""The bands of whole years, each with the age at which it begins."""
SEXES = ("female", "male")
PATIENT_COLUMNS = ("patient_id", "age_band", "sex")


def describe_patients(stays: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of each patient, by the first of these stays.

    Args:
        stays: one row a stay, the first of a patient first: `patient_id`, `age` in years, and `sex`
            (one of `SEXES`, anything else where it is not known).

    Returns:
        One row a patient, by id: `patient_id`, `age_band` and `sex`, empty where it is not known.
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
    """Write what `describe_patients` returns; the same patients give the same bytes."""
    columns = {name: pa.array(patients[name], pa.string()) for name in PATIENT_COLUMNS}
    pq.write_table(pa.table(columns), path)


def read_patients(folder: Path) -> pd.DataFrame | None:
    """Read what a cohort folder says of its patients.

    Returns:
        `PATIENT_COLUMNS`, all text, or None where the source told neither age nor sex.

    Raises:
        CohortError: where the file is there and cannot be read, or names a patient twice.
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
        raise CohortError(
            f"{path} names a patient twice; prepare the cohort again with --overwrite"
        )
    return frame
