"""MEDS cohort: stays by their codes, vitals by step, care units or any other code as sites."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.characteristics import STAY_FACTS
from common.data.cohort_writer import Cohort
from common.data.demographics import describe_patients
from common.data.exclusion_flow import ExclusionFlow
from common.errors import SourceError
from common.files.hashing import ReadProgress
from simulation.cohorts import ADULT_YEARS
from simulation.cohorts.charted_vitals import charted_vitals
from simulation.cohorts.files.scratch_database import ScratchDatabase
from simulation.cohorts.meds.codes import MedsCodes
from simulation.cohorts.meds.events import EVENTS, find_shards, load_events
from simulation.cohorts.meds.stays import NO_SITE, find_stays
from simulation.cohorts.stay_selection import (
    by_unit,
    check_settings,
    long_enough,
    one_site_a_patient,
)

_DAY_S = 24 * 60 * 60


@dataclass(frozen=True)
class MedsSettings:
    """Settings of a MEDS cohort.

    Attributes:
        step_minutes: length of a time step.
        min_hours: least hours from admission to the last vital sign.
    """

    step_minutes: int = 60
    min_hours: int = 12

    def __post_init__(self) -> None:
        check_settings(self.step_minutes, self.min_hours)

    @property
    def rule(self) -> str:
        """Description of the cohort rule, as in every artefact."""
        return (
            f"age>={ADULT_YEARS} where known, at least {self.min_hours} h, "
            f"{self.step_minutes} min steps"
        )

    def to_json(self, codes: MedsCodes) -> dict[str, Any]:
        """Return the settings as plain values, with the digest of the table of codes."""
        return {**asdict(self), "codes_sha256": codes.sha256}


def meds_cohort(
    place: Path,
    codes: MedsCodes,
    settings: MedsSettings,
    *,
    memory_gb: float = 2.0,
    progress: ReadProgress | None = None,
) -> Cohort:
    """Read MEDS events into per-step means of each site.

    Args:
        place: the data set's folder, or a file of events.
        codes: the table of codes.
        settings: selection and step length.
        memory_gb: bound on the memory of the queries, in gigabytes.
        progress: called during the pass over the shards.

    Returns:
        The cohort, ready for `common.data.cohort_writer.write_cohort`.

    Raises:
        SourceError: there are no shards, one is damaged or lacks a column, or no event has a code
            of admission or of a vital sign.
        UsageError: a code charts two vital signs.
    """
    shards = find_shards(place)
    with closing(ScratchDatabase(memory_gb)) as database:
        connection = database.connection
        inputs = load_events(connection, shards, codes, progress)
        stays = find_stays(connection, codes)
        _check_codes_occur(len(stays) > 0, "admission", codes.stays.admission, place)
        query = "SELECT count(*) FROM meds_codes WHERE itemid IS NOT NULL"
        ((charted,),) = connection.execute(query).fetchall()
        first = next(part.codes for parts in codes.vitals.values() for part in parts)
        _check_codes_occur(charted > 0, "a vital sign", first, place)
        flow = ExclusionFlow()
        stays = _candidates(stays, flow)
        connection.register("kept_stays", stays[["subject_id", "stay_id", "intime", "outtime"]])
        vitals, dropped = charted_vitals(
            connection,
            "SELECT subject_id, stay_id, intime, outtime::TIMESTAMP AS until FROM kept_stays",
            f"SELECT subject_id, itemid, time AS charttime, value AS valuenum, false AS is_error "
            f"FROM {EVENTS} JOIN meds_codes USING (code) WHERE itemid IS NOT NULL",
            codes.items(),
            settings.step_minutes,
        )
    # MEDS flags no errors: a count of 0 would claim that they were looked for.
    del dropped["error flag"]
    stays = long_enough(stays, vitals, settings.step_minutes, settings.min_hours, flow)
    stays = one_site_a_patient(stays, flow)
    return Cohort(
        source="meds",
        rule=settings.rule,
        step_minutes=settings.step_minutes,
        parameters=settings.to_json(codes),
        inputs=inputs,
        flow=flow,
        dropped=dropped,
        sites=by_unit(stays, vitals),
        patients=describe_patients(stays),
        stays=_facts(stays),
    )


def _candidates(stays: pd.DataFrame, flow: ExclusionFlow) -> pd.DataFrame:
    flow.record("stays in the source", stays)
    stays = stays[stays["outtime"].notna()]
    flow.record("with an end", stays)
    stays = stays[stays["unit"] != NO_SITE]
    flow.record("with a site", stays)
    stays = stays[~(stays["age"] < ADULT_YEARS)]
    flow.record(f"not known to be under {ADULT_YEARS} years old", stays)
    return stays


def _facts(stays: pd.DataFrame) -> pd.DataFrame:
    """Return facts of the stays for table 1; MEDS has no outcome of a stay."""
    days = (stays["outtime"] - stays["intime"]).dt.total_seconds() / _DAY_S
    rows = stays.assign(icu_days=days)
    return rows[["stay_id", *(name for name in STAY_FACTS if name in rows)]]


def _check_codes_occur(occur: bool, of_what: str, codes: tuple[str, ...], place: Path) -> None:
    if not occur:
        raise SourceError(
            f"no event of {place} has a code of {of_what} (e.g. {codes[0]}); give the table of "
            "this data's codes with --codes"
        )
