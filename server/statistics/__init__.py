"""Comparison of the sites' statistics before the first round, as a page and as tables.

Begin with `page`, or with `comparison`, which gives each site its verdict from its `findings`.
`site_counts` and `binned_counts` have the bounds that suppressed and noisy counts allow, `chance`
those of a sample, `thresholds` the numbers that decide. `summary`, `tables`, `heat_strips` and
`wording` show the result.
"""
