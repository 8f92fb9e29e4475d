"""Defaults that commands show before they import what takes seconds."""

SEEDS = "0,1,2"

FULL_RATE = 3e-3
"""Learning rate of full fine-tuning and of training from scratch: of 3e-4, 1e-3, 3e-3 and 1e-2 the
one with the best validation on challenge-2019, with one seed and the data pooled."""

NETWORK_RATE = 1e-3
"""Learning rate of N-HiTS and PatchTST: the library's own of the first; not tuned."""
