"""Attacks that measure the privacy of a site's replies.

Begin with `membership`, the membership inference attack. `bounds` turns its hits into a lower bound
of epsilon; `adapter_capacity` bounds the bits that an adapter can carry.
"""
