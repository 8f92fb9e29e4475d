"""policy.toml: what may run at the site, with which settings, and what may leave.

Begin with `policy`. `approvals` names the app bundles that may run.
`run_settings` limits a run's settings; `refusal` is the error that every rule raises.
"""
