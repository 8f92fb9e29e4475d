"""Ingest of a hospital's own table: from its columns and codes to the site table.

`pipeline/pipeline.py` runs the steps in order:

mapping/        mapping.toml, parsed into its sections
sources/        the table's rows as Arrow batches: text, Parquet, workbook or database query
reshape/        rows to measurements; units.py and timestamps.py convert values and times
stays/          the stay of each measurement, and the stays that are kept
diagnostics/    counts of what was dropped, and signs of a wrong mapping
pseudonyms.py   keyed hashes of the ids

suggest/        a first mapping from a file's header and values
"""
