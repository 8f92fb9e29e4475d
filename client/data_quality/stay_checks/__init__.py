"""Checks of each stay of a site table: few wrong stays among many right ones.

`all_checks` runs them; each has a file of its own. `stay_rows` maps the rows of a table to its
stays and writes the finding. `ingest_signs` reports what the ingest counted by stay, of values that
it dropped and of times within an hour.

The limits were chosen on 31,351 stays of the PhysioNet Challenge 2019 (both hospitals), MIMIC-III's
demo and the synthetic cohort: docs/explanation/cohort.md gives the stays that each check finds
there.
"""
