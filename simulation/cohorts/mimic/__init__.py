"""Code that the cohorts of MIMIC-III and MIMIC-IV share.

Begin with `cohort`, the last steps of both. `chartevents` reads the charted values in a pass of
`patient_rows`; `vitals` has their item ids. `code_rules` selects septic admissions by the codes of
`icd9` and `icd10`, `sepsis3` septic stays by `suspected_infection` and the scores of `sofa`.
`mimic3` and `mimic4` beside this folder have each data set's tables, units and rules.
"""
