"""Checks before a site's node is started (`client preflight`).

Begin with `site`; `machine`, `network` and `local_api` check what is around it.
Each `finding` has a code, a level and a remedy.
"""
