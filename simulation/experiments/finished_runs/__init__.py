"""Comparison of finished runs: `python -m simulation diff`.

Begin with `run_diff.py`, which compares two groups of runs; `finished_run.py` reads and scores one
run; `diff_tables.py` has the tables and sentences of a comparison.
"""
