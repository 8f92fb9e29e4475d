"""Sources of an ingest: a hospital's file or query, read as Arrow batches of named columns.

Begin with `source`, the interface, and `open_file`, which chooses the reader of a file.

file_kind.py      what a file is, by its bytes; its name is not trusted
byte_streams.py   unpacking of compressed files, conversion of UTF-16 and of line ends
delimiter.py      delimiter and header line of a text file
text_file.py      CSV and its relatives
parquet_file.py   Parquet
workbook.py       Excel and OpenDocument workbooks; sheet_columns.py: types of their columns
query_source.py   queries of SQLite and PostgreSQL
"""
