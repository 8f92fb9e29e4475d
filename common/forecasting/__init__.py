"""Forecasts of single patients: checked inputs, bounded quantiles, a table with reasons.

Begin with `patient_forecaster`, whose `load_forecaster` reads a released adapter. `history` reads a
table of patients, `series_checks` and `unit_checks` refuse what cannot be forecast. `bounds` keeps
quantiles in the vital's range, `forecast_table` is the result. `reference_ranges` has the values
that are plausible in intensive care.
"""
