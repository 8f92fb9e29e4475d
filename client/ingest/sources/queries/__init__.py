"""Queries of databases as table sources.

Begin with `query_source`.
"""
