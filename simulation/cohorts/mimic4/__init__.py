"""MIMIC-IV tables to one site table per care unit.

Begin with `cohort`; `schema` has the tables, `care_units` names the sites, `sepsis3_records` gives
the tables that `mimic.sepsis3` reads.
Charted values, item ids and sepsis rules are those of `mimic`, shared with MIMIC-III.
"""
