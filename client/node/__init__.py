"""The node of a site: Flower's SuperNode with the egress gate in its only way out.

Begin with `supernode`, then `flower_patches` and `gated_connection`.
`isolation/` holds the processes in which the researcher's app runs.
"""
