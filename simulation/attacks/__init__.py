"""Attacks on our own privacy, and what they find.

Begin with `membership`: was this patient in the table?
`bounds` turns hits into a lower bound of epsilon; `adapter_capacity` counts hidden bits.
"""
