"""What the cells of an experiment say, each figure with its interval.

Begin with `analysis`; `seed_bootstrap` resamples patients over several seeds.
"""
