"""Records that SOFA reads, with the names that it has for them in both data sets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SofaRecords:
    """DuckDB tables, or queries in parentheses, of the records of SOFA.

    `mimic3.sepsis3_records` and `mimic4.sepsis3_records` make them from each data set's tables.
    Records that are marked as errors are left out. Other columns and items are ignored.

    Attributes:
        stays: every ICU stay: `subject_id`, `stay_id`, `intime`, `outtime`.
        laboratory: `subject_id`, `specimen_id` (NULL where unknown), `itemid`, `charttime`, `value`
            and `valuenum`; the specimen of a blood gas is `laboratory.SPECIMEN`, arterial as ART.
        chart: CHARTEVENTS: `subject_id`, `itemid`, `charttime`, `value`, `valuenum`.
        infusions: vasopressors: `subject_id`, `itemid`, `starttime`, `endtime`, `rate` and
            `rateuom`, the unit of the rate or NULL.
        outputs: urine: `stay_id`, `itemid`, `charttime`, `value` in mL.
        procedures: `subject_id`, `itemid`, `starttime`.
    """

    stays: str
    laboratory: str
    chart: str
    infusions: str
    outputs: str
    procedures: str
