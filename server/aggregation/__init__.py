"""The rules that make one adapter of the sites' adapters, a file per rule.

Begin with `rules`, which names them all.
`server_optimizers` applies the average as a step.
"""
