"""The coordinator's side: rounds, aggregation, release and report.

Begin with `server_app`, then `rounds.federation`.
Imports `common` only.
"""
