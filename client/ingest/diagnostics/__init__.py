"""Losses of an ingest and signs of a wrong mapping, which `ingest.json` keeps for `client check`.

losses.py        counts of measurements dropped, by reason, with examples
other_codes.py   codes that the mapping does not name
signs.py         values in another unit, overlapping stays, other clocks, ids that are not patients'
stay_units.py    stays whose values are in another unit, by code
stay_times.py    stays with times at midnight, days in one hour, and clocks that jump
time_check.py    times that the mapping's format does not read, or reads in an unproven order
time_formats.py  formats that read a sample of texts
"""
