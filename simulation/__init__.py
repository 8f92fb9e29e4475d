"""The researcher's side: cohorts, the federation on one machine, experiments."""
