"""Statistics of a site before the first round: their fixed bins, and the reply that carries them.

Begin with `reply`, the type that site and server share; `edges` has the bins, bands and hours.
The site counts them in its node (`client.node.statistics`).
"""
