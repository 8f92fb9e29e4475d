"""Sources of an ingest: a hospital's file or query, read as Arrow batches of named columns.

Begin with `source`, the interface, and `open_file`, which chooses the reader of a file.

file_kind.py      what a file is, by its bytes; its name is not trusted
text/             CSV and its relatives: unpacking, encodings, delimiter and header line
parquet_file.py   Parquet
workbooks/        Excel and OpenDocument workbooks
ndjson/           NDJSON, of FHIR resources too
queries/          queries of SQLite, PostgreSQL and DuckDB
joined_table.py   a table of stays with the columns of other files
"""
