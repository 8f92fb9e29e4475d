"""Reshaping of a hospital's rows to measurements of one vital sign each.

Begin with `staging`, the single pass over the source.
"""
