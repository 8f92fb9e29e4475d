"""Folder of a run: written by the rounds, read by the report and the console.

Begin with `run_folder` (writing) or `run_reader` (reading).
`follow` prints the rounds of a run as they end.
"""
