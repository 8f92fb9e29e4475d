"""The ClientApp that trains an adapter on a site's table.

Begin with `client_app`: Flower's messages in and out. `dataset` reads the site table; `local_round`
is one round of training; `node_config` the settings that only the site writes. `personalization`
trains a released adapter further, for one site.
"""
