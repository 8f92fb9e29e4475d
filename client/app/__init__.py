"""The ClientApp that trains an adapter on a site's table.

Begin with `client_app`: Flower's messages in and out. `local_round` is one round of training.
`dataset` reads the site table; `node_config` the settings that the site alone writes.
"""
