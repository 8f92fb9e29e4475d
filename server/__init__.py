"""What runs at the coordinator: rounds, aggregation, release and report.

Begin with `server_app`, then `rounds.federation`.
Imports `common` only.
"""
