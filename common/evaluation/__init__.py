"""Forecast metrics with patient-level intervals.

Begin with `evaluate`; `metrics` has one function per metric.
`bootstrap` resamples patients, `paired_difference` compares two models.
"""
