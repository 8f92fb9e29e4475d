"""The studies, one question per file. Begin with `ranks`, the shortest.

Every study file has the same shape: ``..._experiment`` returns the question, the arms and the
notes; ``summarise_...`` returns the statements and figures; ``STUDY`` joins the two under the
command's name. To add one, copy `ranks` and add a line to `simulation.cli.sweep.SWEEPS`.

`comparison` is the study of `python -m simulation compare`, `reproduce` runs all of them, and
`cost` measures training time and memory, without patients.
"""
