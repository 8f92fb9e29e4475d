"""The steps of an ingest in order, and the folder that it writes.

Begin with `pipeline`; `open_sources` opens what it reads, `scratch_database` is where it works.
"""
