"""The process at a site in which the researcher's app runs, apart from the node and its keys.

Begin with `app_process`; `fork_server` forks it for each message, `message_process` ends it.
`landlock` hides the site's files, `network_sandbox` any network.
"""
