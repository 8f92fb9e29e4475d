"""Generic synthetic time series for pretraining; no clinical data.

Begin with `series`. `kernel_synth` draws Gaussian processes, `corruption` adds measurement effects.
"""
