"""Checks of a site table before anything is trained on it (`client check`).

Begin with `report`; `checks` has one function per finding.
`reference_ranges` holds the values that are plausible in intensive care.
"""
