"""Engines that run the ServerApp and ClientApp on one machine, with the same result.

Begin with `inprocess`, the default. `ray` runs them through `flwr run`.
"""
