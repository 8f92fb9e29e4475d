"""Ingest of a hospital's own table: from its columns and codes to the site table.

`pipeline` runs the steps in order:

mapping.py      mapping.toml, parsed into the sections of mapping_sections.py
sources/        the table's rows as Arrow batches: text, Parquet, workbook or database query
reshape.py      rows to measurements; units.py and timestamps.py convert values and times
stays.py        the stay of each measurement
selection.py    the stays that are kept
diagnostics.py  counts of what was dropped, and signs of a wrong mapping
pseudonyms.py   keyed hashes of the ids

suggest/        a first mapping from a file's header and values
"""
