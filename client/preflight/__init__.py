"""Checks before a site's node is started (`client preflight`).

Begin with `site`; `machine`, `network` and `local_api` check its surroundings.
Each `check_result` has a code, a level and a remedy.
"""
