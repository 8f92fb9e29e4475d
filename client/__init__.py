"""A hospital's side: the node, the training, and the site's control over what leaves.

Begin with `client.app.client_app` (the training) or `client.node.supernode` (the node).
Imports `common` only; the server's code is never needed at a site.
"""
