"""Files that the sources of cohorts read and write.

`published_folder` finds the tables of a download and compares digests; `scratch_database` is where
tables are loaded.
"""
