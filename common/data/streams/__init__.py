"""Streams of record batches of large files.

Begin with `csv_stream`; `parquet_stream` has the same interface for Parquet.
A reader keeps only the columns and rows that it is asked for.
"""
