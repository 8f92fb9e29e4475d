"""Checks of a site table before anything is trained on it (`client check`).

Begin with `checks`, which finds the problems; to add a check, add it to `checks.find_all`.
`report` summarises a table with its problems and prints them.
`reference_ranges` holds the values that are plausible in intensive care.
"""
