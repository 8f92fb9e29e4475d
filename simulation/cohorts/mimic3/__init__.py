"""MIMIC-III tables to one site table per care unit.

`cohort` runs the steps: `sepsis` selects the stays, `mimic.chartevents` reads their rows,
`mimic.vitals` cleans and averages them. `schema` has the tables; `sofa/` scores SOFA for Sepsis-3.
"""
