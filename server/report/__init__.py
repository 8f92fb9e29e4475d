"""The report and model card of a run, a file per section.

Begin with `run_report`, which lists the sections in their order.
The building blocks are `common.reporting`.
"""
