"""The steps of an ingest in order, and the folder that it writes.

Begin with `pipeline`.
"""
