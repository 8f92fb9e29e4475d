"""MIMIC-IV tables to one site table per care unit.

Begin with `cohort`; `schema` has the tables, `care_units` names the sites.
Charted values, item ids and sepsis codes are those of `mimic`, shared with MIMIC-III.
"""
