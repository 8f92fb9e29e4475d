"""The coordinator's services on a real machine: SuperLink, SuperExec, keys, operators.

Begin with `supervisor`; `server_config` reads server.toml.
`flwr_subprocess` calls Flower's command `flwr`; `control_api` queries the status of runs and nodes.
"""
