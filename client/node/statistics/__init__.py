"""Statistics of a site before the first round, counted in its node and never in an app.

Begin with `answers`, which the gate calls; `counts` counts the patients of the site table.
`suppression` leaves out small counts, or `noise` adds noise under a privacy guarantee.
"""
