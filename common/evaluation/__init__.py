"""Forecast metrics with patient-level intervals.

Begin with `evaluate`, which scores a forecaster; `metrics` has one function per metric.
`bootstrap` resamples patients; `paired_difference` and `calibration` use it. `baselines` are the
forecasts without a model.
"""
