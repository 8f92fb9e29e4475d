"""A hospital's own table, as its systems write it, to the site table.

mapping.toml   mapping.py reads it into the sections of sections.py
the table      source.py: CSV, Parquet or a query, as rows in DuckDB
reshape.py     long or wide rows to measurements; convert.py and clock.py: units and times
stays.py       which stay a measurement belongs to
hourly.py      duplicates out, the mean of each time step
cohort.py      which stays are kept
build.py       all of it in order, and the folder that is written
"""
