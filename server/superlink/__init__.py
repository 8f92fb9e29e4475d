"""Flower's SuperLink with an authenticated control API and a checked fleet API.

Begin with `superlink`; `control_api_guard` asks each caller for a credential.
Its process is started by `server.deployment.supervisor`.
"""
