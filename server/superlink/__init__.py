"""Flower's SuperLink with an authenticated control API and a checked fleet API.

Begin with `superlink`; `control_api_guard` authenticates operators.
`server.deployment.supervisor` starts its process.
"""
