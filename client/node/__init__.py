"""The node of a site: Flower's SuperNode with the egress gate in its only way out.

Begin with `supernode`, then `gated_connection`.
`isolation/` holds the process in which the researcher's app runs.
"""
