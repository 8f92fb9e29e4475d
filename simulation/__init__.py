"""The researcher's side: cohorts, the federation on one machine, experiments.

Begin with `run`: a whole run. `cohorts` prepares data, `experiments` compares.
`pretraining` makes the small backbones, `attacks` tests the privacy.
"""
