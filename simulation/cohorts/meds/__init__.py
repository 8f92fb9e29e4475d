"""Events in MEDS, the Medical Event Data Standard, to one site table per care unit.

Begin with `cohort`; `events` reads the shards, `codes` the table of codes, of which
`mimic-iv.toml` is the one for MIMIC-IV, `stays` pairs admissions with discharges.
"""
