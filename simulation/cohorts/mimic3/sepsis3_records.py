"""Tables of MIMIC-III as the records of suspected infection and of SOFA."""

from __future__ import annotations

from collections.abc import Iterable

from simulation.cohorts.mimic.sofa.cardiovascular import VASOPRESSORS
from simulation.cohorts.mimic.sofa.laboratory import LABORATORY_ITEMS
from simulation.cohorts.mimic.sofa.records import SofaRecords
from simulation.cohorts.mimic.sofa.renal import URINE_ITEMS
from simulation.cohorts.mimic.suspected_infection import (
    InfectionRecords,
    is_systemic_antibiotic,
    time_of_culture,
)
from simulation.cohorts.source_tables import SourceTables

INFECTION_TABLES: tuple[str, ...] = ("PRESCRIPTIONS", "MICROBIOLOGYEVENTS")
"""Tables of suspected infection."""

SOFA_TABLES: tuple[str, ...] = (
    "ICUSTAYS",
    "LABEVENTS",
    "INPUTEVENTS_CV",
    "INPUTEVENTS_MV",
    "OUTPUTEVENTS",
    "PROCEDUREEVENTS_MV",
)
"""Tables of SOFA besides CHARTEVENTS."""


def mimic3_infection_records(tables: SourceTables) -> InfectionRecords:
    """Load antibiotics and cultures.

    Raises:
        SourceError: one of `INFECTION_TABLES` is absent.
    """
    prescriptions, microbiology = (
        tables.load(table, "suspected infection (sepsis3)") for table in INFECTION_TABLES
    )
    return InfectionRecords(
        antibiotics=f"(SELECT hadm_id, startdate AS started FROM {prescriptions} "
        f"WHERE {is_systemic_antibiotic()})",
        cultures=f"(SELECT hadm_id, {time_of_culture()} FROM {microbiology})",
        antibiotics_have_times=False,
    )


def mimic3_sofa_records(tables: SourceTables, chartevents: str) -> SofaRecords:
    """Load the records of SOFA.

    Args:
        tables: has `SOFA_TABLES`.
        chartevents: a DuckDB table with the CHARTEVENTS rows of `sofa.score.SOFA_ITEMS`, with text
            values: `subject_id`, `itemid`, `charttime`, `value`, `valuenum`, `error`.

    Raises:
        SourceError: one of `SOFA_TABLES` is absent.
    """
    stays = tables.load("ICUSTAYS", "SOFA (sepsis3)")
    laboratory = tables.load("LABEVENTS", "SOFA (sepsis3)", where=_among(LABORATORY_ITEMS))
    outputs = tables.load("OUTPUTEVENTS", "SOFA (sepsis3): urine output", where=_among(URINE_ITEMS))
    procedures = tables.load("PROCEDUREEVENTS_MV", "SOFA (sepsis3): extubation")
    return SofaRecords(
        stays=stays,
        laboratory=f"(SELECT *, NULL AS specimen_id FROM {laboratory})",
        chart=f"(SELECT * FROM {chartevents} WHERE coalesce(error, 0) = 0)",
        infusions=_infusions(tables, stays),
        outputs=f"(SELECT * FROM {outputs} WHERE coalesce(iserror, 0) = 0)",
        procedures=f"(SELECT s.subject_id, p.itemid, p.starttime "
        f"FROM {procedures} p JOIN {stays} s USING (stay_id))",
    )


def _infusions(tables: SourceTables, stays: str) -> str:
    needed_for = "SOFA (sepsis3): doses of vasopressors"
    carevue = tables.load("INPUTEVENTS_CV", needed_for, where=_among(VASOPRESSORS))
    metavision = tables.load("INPUTEVENTS_MV", needed_for, where=_among(VASOPRESSORS))
    # A rewritten order was never given.
    return f"""(
        SELECT s.subject_id, r.itemid, r.starttime, r.endtime, r.rate, r.rateuom
        FROM (
            SELECT stay_id, itemid, charttime AS starttime, charttime AS endtime, rate, rateuom
            FROM {carevue}
            UNION ALL
            SELECT stay_id, itemid, starttime, coalesce(endtime, starttime), rate, rateuom
            FROM {metavision} WHERE coalesce(statusdescription, '') != 'Rewritten'
        ) r JOIN {stays} s USING (stay_id)
    )"""


def _among(items: Iterable[int]) -> str:
    return f"itemid IN ({', '.join(str(item) for item in sorted(items))})"
