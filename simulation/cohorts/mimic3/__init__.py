"""MIMIC-III tables to one site table per care unit.

Begin with `cohort`; `sepsis` chooses the stays, `vitals` and `chartevents` read their values.
`sofa/` computes the SOFA score for Sepsis-3.
"""
