"""site.toml: the settings of a site's node, which the hospital's administrator writes.

Begin with `site_config`; `node_section` is its table `[node]`.
What a run may do at the site is policy.toml's, see `client.policy`.
"""
