"""Queries of databases as table sources.

Begin with `query_source`, which opens a query and has those of SQLite and PostgreSQL;
`duckdb_query` has those of DuckDB, and `query_text` is common to all.
"""
