"""The settings of a run, and the strict reading of every settings file.

Begin with `run_config`; `sections` declares every setting with its default and range.
`strict_model` is the base of all settings, `field_types` has the types of their fields,
`error_line` the words of an error; `toml` reads a file; `seeds` derives the seeds of each purpose.
"""
