"""Aggregation rules: one adapter from the sites' adapters, a file per rule.

Begin with `rules`, which lists them. `tensor_ops` and `truncation` hold the shared linear algebra,
`server_optimizers` the optional optimizer step on the averaged update.
"""
