"""Defaults of the experiment commands, in a module that imports quickly, for `--help`."""

SEEDS = "0,1,2"

FULL_RATE = 3e-3
"""Learning rate of full fine-tuning and of training from scratch: of 3e-4, 1e-3, 3e-3 and 1e-2 the
one with the best validation on challenge-2019, with one seed and the data pooled."""

NETWORK_RATES = {"nhits": 3e-5, "patchtst": 1e-4}
"""Learning rates of N-HiTS and PatchTST: of 1e-5, 3e-5, 1e-4, 3e-4 and 1e-3 the one with the best
validation on challenge-2019, with one seed and the data pooled; PatchTST without 1e-5."""
