"""The forecasters that experiments compare, by name.

Begin with `registry`.
`federated` runs the real apps; `training_loop` trains without them.
"""
