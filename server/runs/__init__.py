"""The folder of a run: written by the rounds, read by report and console.

Begin with `run_folder` (writing) or `run_reader` (reading).
`follow` prints the rounds of a run as they end.
"""
