"""MIMIC-III tables to one site table per care unit.

`cohort` runs the steps: `sepsis` selects the stays, `chartevents` reads their rows, `vitals` cleans
and averages them. `source_tables` loads the tables by `schema`; `sofa/` scores SOFA for Sepsis-3.
"""
