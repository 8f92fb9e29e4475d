"""Files that the sources of cohorts read and write.

`published_folder` finds the tables of a download and compares digests, `published_rows` numbers of
rows; `table_stream` is the interface of a file that is read, `scratch_database` the database of the
loaded tables.
"""
