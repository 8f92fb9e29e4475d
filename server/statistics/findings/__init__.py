"""Findings about single sites: what deviates, how surely, and what to do.

Begin with `finding`, the type. `unit` and `median` find other units and wrong columns, `missing`
vitals and hours without values, `distribution` other patients, `size` too few of them or a table
that is made otherwise. `server.statistics.comparison` runs them all.
"""
