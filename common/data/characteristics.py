"""Characteristics of a cohort's patients, overall and by site: the numbers of a paper's table 1.

They are counts and quartiles, as plain values:

    {"windows": {...}, "sepsis": "...", "overall": GROUP, "sites": {site: GROUP}}

    GROUP   patients, stays, steps, windows   counts; `windows` is None if not counted
            age, icu_days, observed_hours     QUARTILES, of patients, stays and stays
            over_89                           patients older than 89 years
            sex, unit                         patients by sex, stays by care unit
            septic, died                      {"yes", "known"}, of stays and of patients
            vitals                            {vital: {"missing": steps, "patients": with a value,
                                              ...QUARTILES of values}}
    QUARTILES {"known", "q1", "median", "q3"}; quartiles of nothing are None

A characteristic that the source does not record is None. The numbers describe the whole cohort, all
splits together. They are computed where the tables are and stay there: what may be published is
`common.reporting.small_cells.without_small_cells` of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.demographics import SEXES
from common.data.site_table import SiteTable
from common.data.splits import SPLITS
from common.data.vitals import VITAL_NAMES
from common.data.windows import WindowSettings, count_windows

OLDEST_AGE = 90
"""Age that older patients are counted with: MIMIC-III shifts their dates of birth by 300 years."""

STAY_FACTS = ("age", "sex", "unit", "icu_days", "septic", "died")
"""Optional columns of the frame of stays, see `characterise`."""

_NUMBERS = ("age", "icu_days", "septic", "died")
_UNKNOWN_SEX = "unknown"


def characterise(
    tables: Mapping[str, SiteTable],
    stays: pd.DataFrame | None = None,
    *,
    windows: WindowSettings | None = None,
    sepsis: str = "",
) -> dict[str, Any]:
    """Return the characteristics of a cohort, overall and by site.

    Args:
        tables: the site tables by site.
        stays: facts of these stays or of more, a patient's first one first: `stay_id`, and any of
            `age` in years, `sex` (one of `SEXES`), `unit`, `icu_days`, `septic` and `died` in
            hospital (true, false or missing). None where the source has none of them.
        windows: lengths of the windows to count; None = not counted.
        sepsis: the rule by which a stay is septic, in words.

    Returns:
        Plain values, see the module.
    """
    facts = None if stays is None else _plain(stays)
    rows = {site: _stay_rows(table, facts) for site, table in tables.items()}
    counts = {site: _windows(table, windows) for site, table in tables.items()}
    total = None if windows is None else sum(count or 0 for count in counts.values())
    every = list(tables.values())
    return {
        "windows": None if windows is None else asdict(windows),
        "sepsis": sepsis,
        "overall": _group(every, pd.concat(rows.values(), ignore_index=True), total),
        "sites": {site: _group([tables[site]], rows[site], counts[site]) for site in tables},
    }


def _plain(stays: pd.DataFrame) -> pd.DataFrame:
    """Return the facts with ids as text and numbers as floats, NaN where missing."""
    # Sources give flags in several types, and facts of several sources are mixed in one column.
    numbers = {
        name: stays[name].astype("Float64").to_numpy(np.float64, na_value=np.nan)
        for name in _NUMBERS
        if name in stays
    }
    return stays.assign(stay_id=stays["stay_id"].astype(str), **numbers)


def _windows(table: SiteTable, settings: WindowSettings | None) -> int | None:
    if settings is None:
        return None
    return sum(count_windows(table, split, settings) for split in SPLITS)


def _stay_rows(table: SiteTable, facts: pd.DataFrame | None) -> pd.DataFrame:
    """Return one row per stay of a table: ids, `hours` in the table, and the facts known."""
    frame = table.frame
    starts = np.flatnonzero(frame["step"].to_numpy() == 0)
    rows = frame[["patient_id", "stay_id"]].iloc[starts].reset_index(drop=True)
    lengths = np.diff(np.append(starts, len(frame)))
    rows["hours"] = lengths * table.info.step_minutes / 60
    # Two hospitals may use one id for two people.
    rows["person"] = table.info.site + "/" + rows["patient_id"].astype(str)
    if facts is None:
        return rows
    # The order of the facts is the order of a patient's stays in time.
    facts = facts.assign(order=np.arange(len(facts)))
    columns = ["stay_id", "order", *(name for name in STAY_FACTS if name in facts)]
    merged = rows.merge(facts[columns], on="stay_id", how="left", validate="one_to_one")
    return merged.sort_values("order", kind="stable", ignore_index=True)


def _group(tables: Sequence[SiteTable], stays: pd.DataFrame, windows: int | None) -> dict[str, Any]:
    persons = stays.drop_duplicates("person")
    age = _known(persons, "age")
    return {
        "patients": len(persons),
        "stays": len(stays),
        "steps": sum(len(table.frame) for table in tables),
        "windows": windows,
        "age": None if age is None else _quartiles(np.minimum(age, OLDEST_AGE)),
        "over_89": None if age is None else int((age >= OLDEST_AGE).sum()),
        "sex": _sexes(persons),
        "unit": _units(stays),
        "icu_days": None if (days := _known(stays, "icu_days")) is None else _quartiles(days),
        "observed_hours": _quartiles(stays["hours"].to_numpy(np.float64)),
        "septic": _flags(stays, "septic"),
        "died": _flags(_deaths(stays), "died"),
        "vitals": {name: _vital(tables, name) for name in VITAL_NAMES},
    }


def _vital(tables: Sequence[SiteTable], name: str) -> dict[str, Any]:
    # One vital at a time: all of a large cohort's values together are gigabytes.
    values = np.concatenate([table.frame[name].to_numpy() for table in tables])
    observed = values[~np.isnan(values)].astype(np.float64)
    patients = sum(_patients_with(table, name) for table in tables)
    return {
        "missing": len(values) - len(observed),
        "patients": patients,
        **_quartiles(observed),
    }


def _patients_with(table: SiteTable, name: str) -> int:
    """Return the number of patients who have a value of a vital sign."""
    starts = np.flatnonzero(table.frame["step"].to_numpy() == 0)
    observed = ~np.isnan(table.frame[name].to_numpy())
    stays = np.add.reduceat(observed, starts, dtype=np.int64) > 0
    return int(table.frame["patient_id"].iloc[starts[stays]].nunique())


def _quartiles(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    if not len(values):
        return {"known": 0, "q1": None, "median": None, "q3": None}
    q1, median, q3 = (round(float(value), 4) for value in np.percentile(values, (25, 50, 75)))
    return {"known": len(values), "q1": q1, "median": median, "q3": q3}


def _known(rows: pd.DataFrame, column: str) -> npt.NDArray[np.float64] | None:
    """Return the values that are known; None if the source records none."""
    if column not in rows:
        return None
    values = rows[column].to_numpy(np.float64)
    known = values[~np.isnan(values)]
    return known if len(known) else None


def _sexes(persons: pd.DataFrame) -> dict[str, int] | None:
    if "sex" not in persons:
        return None
    sex = persons["sex"].where(persons["sex"].isin(SEXES), _UNKNOWN_SEX)
    counts = {name: int((sex == name).sum()) for name in (*SEXES, _UNKNOWN_SEX)}
    return counts if counts[_UNKNOWN_SEX] < len(persons) else None


def _units(stays: pd.DataFrame) -> dict[str, int] | None:
    if "unit" not in stays or stays["unit"].isna().all():
        return None
    counts = stays["unit"].fillna("unknown").value_counts()
    return {str(unit): int(counts[unit]) for unit in sorted(counts.index)}


def _flags(rows: pd.DataFrame, column: str) -> dict[str, int] | None:
    if (known := _known(rows, column)) is None:
        return None
    return {"yes": int((known != 0).sum()), "known": len(known)}


def _deaths(stays: pd.DataFrame) -> pd.DataFrame:
    """Return whether each patient died in hospital in any of the stays, one row per patient."""
    if "died" not in stays:
        return stays
    died = stays[["person", "died"]]
    return died.groupby("person", as_index=False).max()
