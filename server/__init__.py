"""The coordinator's side: aggregation, evaluation and release of the global adapter."""
