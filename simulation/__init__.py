"""The researcher's side: cohorts, the federation on one machine, experiments.

Begin with `run`, a run of the federation. `cohorts` prepares data, `experiments` runs the studies,
`pretraining` makes the small backbones, `attacks` tests the privacy.
"""
