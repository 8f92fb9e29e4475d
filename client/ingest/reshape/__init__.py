"""Reshaping of a hospital's rows to measurements of one vital sign each.

Begin with `staging`, the single pass over the source; `stay_fields` has the part of it that is of
stays, `codes` the tables that it joins, and `drop_reasons` why a measurement is left out.
"""
