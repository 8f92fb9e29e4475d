"""The settings of a run, and the strict reading of TOML files.

Begin with `run_config`; `sections` declares every setting with its default and range.
`toml` reads the files of site and coordinator.
"""
