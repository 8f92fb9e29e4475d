"""Flower's SuperLink with an authenticated control API and a checked fleet API.

Begin with `superlink`; `control_api_guard` authenticates operators.
`superexec` runs Flower's SuperExec. `server.deployment.supervisor` starts both processes.
"""
