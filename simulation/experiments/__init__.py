"""The paper's questions as experiments: cells trained once and cached, then analysed.

Begin with `experiment` (the terms) and `run_experiment` (the steps). `studies/` has one file per
question, `models/` the compared methods; `analysis/` computes intervals, `output/` writes tables,
figures and pages.
"""
