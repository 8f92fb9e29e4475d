"""The processes in which the researcher's app runs, separated from the node and its keys.

Begin with `app_process`; `fork_server` forks a supervisor for each message (`message_process`),
which runs the app and kills all its processes. `landlock` hides the site's files,
`network_sandbox` the network of a dry run.
"""
