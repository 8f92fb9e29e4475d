"""Generic synthetic time series to pretrain on; no patient's data.

Begin with `series`; `kernel_synth` draws Gaussian processes, `corruption` measures them badly.
"""
