"""The studies: one question each, its arms and what they are compared with.

Begin with `comparison`; `reproduce` runs them all.
"""
