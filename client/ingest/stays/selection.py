"""Selection of the stays that a site table keeps, each rule with its count.

First the hospital's own choice (lists of ids, a flag), then what a site table requires of a stay.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from client.ingest.mapping.site_mapping import SiteMapping
from common.data.characteristics import STAY_FACTS
from common.data.exclusion_flow import ExclusionFlow
from common.data.step_means import MINUTE_US
from common.errors import SourceError

HOUR_US = 60 * MINUTE_US
AT_LEAST = "at least "
"""Begin of the rule on the length of a stay."""
_DAY_US = 24 * HOUR_US
_COMMENT = "#"
_AGE = (
    r"(?i)^\s*(?P<sign>>=|≥|>)?\s*(?P<years>\d{1,3}(?:\.\d+)?)\s*\+?\s*"
    r"(?:y|yrs?|years?|jahre?|ans)?\.?\s*$"
)


def stay_frame(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """Return the stays, one per row, sorted by patient and stay.

    Returns:
        `stay` (number), `patient_id`, `stay_id` (str), `is_single`, `chosen` (bool), `last_us`
        (microseconds from the start to the last valid measurement; -1 without one), `start_us`
        (UTC; -1 where neither admission nor measurement is known) and `part`, the bits of
        `client.site_split.stay_sides.part_bits`.
    """
    return connection.execute(
        """
        SELECT s.stay, p.patient AS patient_id, s.id AS stay_id, s.is_single,
            coalesce(s.chosen, false) AS chosen, coalesce(m.last_us, -1) AS last_us,
            coalesce(s.start_us, -1) AS start_us, coalesce(s.part, 0) AS part
        FROM stays s JOIN people p ON s.patient = p.person LEFT JOIN (
            SELECT stay, max(since_us) AS last_us FROM measured WHERE reason IS NULL GROUP BY stay
        ) m ON s.stay = m.stay
        ORDER BY p.patient, s.id, s.stay"""
    ).df()


def choose_stays(
    stays: pd.DataFrame, mapping: SiteMapping, flow: ExclusionFlow
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Apply the cohort's rules in a fixed order and count the stays left after each.

    Args:
        stays: from `stay_frame`.
        mapping: has the rules.
        flow: gets the counts.

    Returns:
        The stays kept; and, by list of ids, the number of its ids that no stay has.

    Raises:
        SourceError: a list of ids cannot be read.
    """
    stays = stays.assign(unit=mapping.site)
    flow.record("stays in the source", stays)
    if not stays["is_single"].all():
        stays = stays[stays["is_single"]]
        flow.record("an id that is one patient's", stays)
    stays, missing = _chosen(stays, mapping, flow)
    stays = stays[stays["last_us"] >= 0]
    flow.record("with a vital sign", stays)
    stays = stays[stays["last_us"] < mapping.stay.max_days * _DAY_US]
    flow.record(f"at most {mapping.stay.max_days} days", stays)
    step_us = mapping.table.step_minutes * MINUTE_US
    # A step counts in full, as in the site table.
    lengths = (stays["last_us"].to_numpy(np.int64) // step_us + 1) * step_us
    stays = stays[lengths >= mapping.cohort.min_hours * HOUR_US]
    flow.record(f"{AT_LEAST}{mapping.cohort.min_hours:g} h of vital signs", stays)
    return stays, missing


def _chosen(
    stays: pd.DataFrame, mapping: SiteMapping, flow: ExclusionFlow
) -> tuple[pd.DataFrame, dict[str, int]]:
    cohort, missing = mapping.cohort, {}
    for column, file in (("patient_id", cohort.keep_patients), ("stay_id", cohort.keep_stays)):
        if file:
            ids = _read_ids(mapping.folder / file)
            missing[column] = len(ids - set(stays[column]))
            stays = stays[stays[column].isin(ids)]
            flow.record(f"in the list of {column.removesuffix('_id')}s to keep", stays)
    if cohort.flag:
        stays = stays[stays["chosen"]]
        flow.record("flagged by the hospital", stays)
    return stays, missing


def _read_ids(path: Path) -> set[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"the list of ids {path} cannot be read: {reason}") from error
    ids = {line.strip() for line in lines}
    return {id_ for id_ in ids if id_ and not id_.startswith(_COMMENT)}


def stay_facts(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, kept: pd.DataFrame
) -> pd.DataFrame:
    """Return what the hospital's table of stays says of the stays kept, for table 1.

    Args:
        connection: has `stay_keys`, and `stay_texts` if the mapping has `[patients]`.
        mapping: has the columns and the meaning of their texts.
        kept: the stays kept, see `stay_frame`.

    Returns:
        One row per stay, a patient's first one first: `patient_id`, `stay_id`, and the columns of
        `common.data.characteristics.STAY_FACTS` that are known.
    """
    columns, patients = mapping.patients.columns, mapping.patients
    texts = "".join(f", t.{name}" for name in columns)
    join = "LEFT JOIN stay_texts t ON k.patient = t.patient AND k.key = t.key" if columns else ""
    rows = connection.execute(
        f"SELECT k.stay, k.start_us, k.end_us{texts} FROM stay_keys k {join}"
    ).df()
    facts = kept[["stay", "patient_id", "stay_id"]].merge(rows, on="stay", how="left")
    facts["icu_days"] = (facts["end_us"] - facts["start_us"]).astype(float) / _DAY_US
    lower = {name: facts[name].str.lower() for name in ("sex", "septic", "died") if name in columns}
    if "age" in columns:
        facts["age"] = _ages(facts["age"].str.replace(mapping.file.decimal, ".", regex=False))
    if "born" in columns and not mapping.has_own_clocks:
        facts["age"] = _ages_from_birth(facts["born"], facts["start_us"])
    if "sex" in columns:
        names = dict.fromkeys(patients.female, "female") | dict.fromkeys(patients.male, "male")
        facts["sex"] = lower["sex"].map(names).fillna("")
    for name in ("septic", "died"):
        if name in columns:
            facts[name] = lower[name].isin(patients.yes).astype(float).where(lower[name].notna())
    facts = facts.sort_values(["patient_id", "start_us"], kind="stable")
    return facts[["patient_id", "stay_id", *(name for name in STAY_FACTS if name in facts)]]


def _ages_from_birth(born: pd.Series[str], start_us: pd.Series[float]) -> pd.Series[float]:
    """Return whole years from birth, a date or a year, to admission; NaN where one is unknown."""
    start = pd.to_datetime(start_us, unit="us", errors="coerce")
    parts = born.astype("string").str.extract(r"^(\d{4})(?:-(\d{2})-(\d{2}))?")
    year, month, day = (pd.to_numeric(parts[place]).astype(float) for place in range(3))
    is_before = (start.dt.month < month) | ((start.dt.month == month) & (start.dt.day < day))
    return (start.dt.year - year - is_before.astype(float)).astype(float)


def _ages(texts: pd.Series[str]) -> pd.Series[float]:
    """Return ages in years from texts; what is no age is NaN.

    Exports hide exact high ages as ``> 89``, ``>= 90``, ``≥ 90`` or ``90+``: the first counts as
    above 89.
    """
    parts = texts.astype("string").str.extract(_AGE)
    years = pd.to_numeric(parts["years"], errors="coerce").astype(float)
    return years + (parts["sign"] == ">").fillna(False).astype(float)


def keep_stays(connection: duckdb.DuckDBPyConnection, kept: pd.DataFrame) -> None:
    """Create the table `kept`: the numbers of the stays kept."""
    connection.register("kept_frame", kept[["stay"]])
    connection.execute("CREATE TABLE kept AS SELECT stay FROM kept_frame")
    connection.unregister("kept_frame")
