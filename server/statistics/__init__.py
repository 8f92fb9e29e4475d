"""Comparison of the sites' statistics before the first round, as a page and as tables.

Begin with `page`, or with `comparison`, which gives each site its verdict from the findings of
`unit_findings`, `distribution_findings`, `missing_findings` and `size_findings`. `binned_counts`
has the bounds that suppressed and noisy counts allow, `thresholds` the numbers that decide.
`tables`, `figures` and `wording` show the result.
"""
