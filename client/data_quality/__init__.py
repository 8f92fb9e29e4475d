"""Checks of a site table before anything is trained on it (`client check`).

Begin with `checks`, which finds the problems; to add a check, add it to `checks.find_all`.
`record_checks` finds those that `ingest.json` tells, for `client ingest` too: `losses` what was
dropped, `unit_mixture` values in another unit. `stay_checks` holds the checks of each stay.
`report` summarises a table with its problems and prints them. `finding` is one problem.
`common.forecasting.reference_ranges` holds the values that are plausible in intensive care.
"""
