"""Analysis of the cells of an experiment: every value with its interval.

Begin with `analysis`. `seed_bootstrap` resamples patients over several seeds, `statements` puts
results into words.
"""
