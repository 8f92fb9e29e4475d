"""MIMIC-III tables to one site table per care unit.

`cohort` runs the steps: `sepsis` selects the stays, `mimic.chartevents` reads their rows,
`mimic.vitals` cleans and averages them. `schema` has the tables; `sepsis3_records` gives those that
`mimic.sepsis3` reads.
"""
