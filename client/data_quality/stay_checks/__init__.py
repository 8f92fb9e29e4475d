"""Checks of each stay of a site table: few wrong stays among many right ones.

`all_checks` runs them; each has a file of its own. `stay_rows` maps the rows of a table to its
stays and writes the finding. `ingest_signs` reports what the ingest counted by stay, of values that
it dropped and of times within an hour.

The limits were chosen on open data without these errors, where no check has a finding:
docs/how-to/ingest.md has the numbers.
"""
