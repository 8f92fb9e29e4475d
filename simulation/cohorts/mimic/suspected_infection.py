"""Suspected infection: an antibiotic order and a culture close in time.

Seymour et al. 2016, doi 10.1001/jama.2016.0288: a culture followed by an antibiotic within 72 h, or
an antibiotic followed by a culture within 24 h. The onset is the earlier of the two.

Prescriptions in MIMIC-III have a date only, so an antibiotic counts from the midnight that begins
its date, as in the public MIMIC code; the onset is the time of the culture, the only one of the two
with a clock time. In MIMIC-IV both have one.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

CULTURE_BEFORE_H = 72
"""Most hours from a culture to a later antibiotic."""

CULTURE_AFTER_H = 24
"""Most hours from an antibiotic to a later culture."""

# A culture with a date only was taken at an unknown time of that day.
_DAY_H = 24

# Systemic antibiotics by generic and trade name, as the public MIMIC code lists them for MIMIC-III
# (github.com/MIT-LCP/mimic-code, mimic-iii/concepts/treatment/abx_prescriptions_list).
_LISTED_NAMES = (
    *("adoxa", "ala-tet", "alodox", "amikacin", "amikin", "amoxicillin", "ampicillin"),
    *("augmentin", "avelox", "avidoxy", "axetil", "azactam", "azithromycin", "aztreonam"),
    *("bactocill", "bactrim", "bethkis", "biaxin", "bicillin l-a", "cayston", "cedax", "cefaclor"),
    *("cefadroxil", "cefazolin", "cefdinir", "cefditoren", "cefepime", "cefotaxime", "cefotetan"),
    *("cefoxitin", "cefpodoxime", "cefprozil", "ceftazidime", "ceftibuten", "ceftin", "cefuroxime"),
    *("cephalexin", "chloramphenicol", "cipro", "claforan", "clarithromycin", "clavulanate"),
    *("cleocin", "clindamycin", "cubicin", "dicloxacillin", "doryx", "doxycycline", "duricef"),
    *("dynacin", "ery-tab", "eryc", "eryped", "erythrocin", "erythromycin", "factive", "flagyl"),
    *("fortaz", "furadantin", "garamycin", "gentamicin", "kanamycin", "keflex", "ketek"),
    *("levaquin", "levofloxacin", "lincocin", "macrobid", "macrodantin", "maxipime", "mefoxin"),
    *("metronidazole", "minocin", "minocycline", "monodox", "monurol", "morgidox", "moxatag"),
    *("moxifloxacin", "myrac", "nafcillin sodium", "nicazel doxy 30", "nitrofurantoin", "noroxin"),
    *("ocudox", "ofloxacin", "omnicef", "oracea", "oraxyl", "oxacillin", "panixine", "pc pen vk"),
    *("pce dispertab", "pediazole", "penicillin", "periostat", "pfizerpen", "piperacillin"),
    *("primsol", "proquin", "raniclor", "rifadin", "rifampin", "rocephin", "septra", "smz-tmp"),
    *("solodyn", "spectracef", "streptomycin sulfate", "sulfadiazine", "sulfamethoxazole"),
    *("sulfatrim", "sulfisoxazole", "suprax", "synercid", "tazicef", "tazobactam", "tetracycline"),
    *("timentin", "tobi", "tobramycin", "trimethoprim", "unasyn", "vancocin", "vancomycin"),
    *("vantin", "vibativ", "vibra-tabs", "vibramycin", "zinacef", "zithromax", "zmax", "zosyn"),
    "zyvox",
)
# What that list lacks, among it two of the drugs given most for sepsis, ceftriaxone and meropenem.
# Its successor for MIMIC-IV (mimic-iv/concepts/medication/antibiotic) has the first two lines; the
# others are systemic antibacterials too (WHO ATC group J01).
_ADDED_NAMES = (
    *("ancef", "cefpirome", "ceftaroline", "ceftriaxone", "cephalothin", "dirithromycin", "kefzol"),
    *("linezolid", "meropenem", "methicillin", "nafcillin", "norfloxacin", "streptomycin"),
    *("colisti", "daptomycin", "doripenem", "ertapenem", "imipenem", "tigecycline"),
)

ANTIBIOTIC_NAMES: tuple[str, ...] = (*_LISTED_NAMES, *_ADDED_NAMES)
"""A drug is an antibiotic if its lower-case name contains one of these."""

# Routes to eyes, ears and skin: local treatment is no sign of a systemic infection.
LOCAL_ROUTES: tuple[str, ...] = ("OU", "OS", "OD", "AU", "AS", "AD", "TP")
_LOCAL_ROUTE_WORDS = ("ear", "eye")
_LOCAL_DRUG_WORDS = ("cream", "desensitization", "ophth oint", "gel")


@dataclass(frozen=True, kw_only=True)
class InfectionRecords:
    """DuckDB tables, or queries in parentheses, of antibiotics and cultures.

    `mimic3.sepsis3_records` and `mimic4.sepsis3_records` make them from each data set's tables.

    Attributes:
        antibiotics: prescriptions of systemic antibiotics: `hadm_id`, `started`.
        cultures: `hadm_id`, `taken`, and `uncertain_h`, the hours after `taken` in which the
            culture may have been taken; see `time_of_culture`.
        antibiotics_have_times: whether `started` is a time, not the midnight that begins a date.
    """

    antibiotics: str
    cultures: str
    antibiotics_have_times: bool


def suspected_infections(
    connection: duckdb.DuckDBPyConnection, records: InfectionRecords, stays: str
) -> str:
    """Find the times of suspected infection in the hospital admission of each ICU stay.

    Args:
        connection: the database of the records.
        records: antibiotics and cultures of these admissions at least.
        stays: a DuckDB table with the columns `subject_id`, `hadm_id` and `stay_id`.

    Returns:
        The name of a DuckDB table with one row per stay and time: `subject_id`, `hadm_id`,
        `stay_id`, `infection_time`. The stay may be before or after that time: an infection
        belongs to the admission.
    """
    onset = "least(a.started, c.taken)" if records.antibiotics_have_times else "c.taken"
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE suspected_infections AS
        WITH antibiotics AS (
            SELECT DISTINCT a.hadm_id, a.started
            FROM {records.antibiotics} a SEMI JOIN {stays} s USING (hadm_id)
            WHERE a.started IS NOT NULL
        ), cultures AS (
            SELECT DISTINCT hadm_id, taken, uncertain_h FROM {records.cultures}
            WHERE taken IS NOT NULL
        )
        SELECT DISTINCT s.subject_id, s.hadm_id, s.stay_id, {onset} AS infection_time
        FROM {stays} s
        JOIN antibiotics a USING (hadm_id)
        JOIN cultures c USING (hadm_id)
        WHERE a.started <= c.taken + to_hours({CULTURE_BEFORE_H} + c.uncertain_h)
          AND a.started >= c.taken - to_hours({CULTURE_AFTER_H})
        """
    )
    return "suspected_infections"


def first_suspected_infection(
    connection: duckdb.DuckDBPyConnection, records: InfectionRecords, stays: str
) -> str:
    """Find the first time of suspected infection in the admission of each ICU stay.

    Args:
        connection: the database of the records.
        records: as for `suspected_infections`.
        stays: a DuckDB table with the columns `subject_id`, `hadm_id` and `stay_id`.

    Returns:
        The name of a DuckDB table with the columns `stay_id` and `infection_time`; a stay
        without a suspected infection has no row.
    """
    infections = suspected_infections(connection, records, stays)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE first_suspected_infection AS
        SELECT stay_id, min(infection_time) AS infection_time
        FROM {infections} GROUP BY stay_id
        """
    )
    return "first_suspected_infection"


def time_of_culture() -> str:
    """Return the SQL columns `taken` and `uncertain_h` of a row of MICROBIOLOGYEVENTS."""
    return (
        "coalesce(charttime, chartdate) AS taken, "
        f"CASE WHEN charttime IS NULL THEN {_DAY_H} ELSE 0 END AS uncertain_h"
    )


def is_systemic_antibiotic() -> str:
    """Return the SQL condition on a row of PRESCRIPTIONS: `drug_type`, `drug`, `route`."""
    names = " OR ".join(f"contains(lower(drug), '{name}')" for name in ANTIBIOTIC_NAMES)
    routes = ", ".join(f"'{route}'" for route in LOCAL_ROUTES)
    local_routes = " OR ".join(f"contains(lower(route), '{word}')" for word in _LOCAL_ROUTE_WORDS)
    local_drugs = " OR ".join(f"contains(lower(drug), '{word}')" for word in _LOCAL_DRUG_WORDS)
    # BASE is the fluid that a drug is dissolved in. A prescription without a route is taken as
    # systemic: what is put into eyes and ears names its place.
    return (
        f"drug_type IN ('MAIN', 'ADDITIVE') AND ({names}) AND NOT ({local_drugs}) "
        f"AND coalesce(route, '') NOT IN ({routes}) AND NOT coalesce({local_routes}, false)"
    )
