"""The paper's questions as experiments: cells trained once, then analysed.

Begin with `run_experiment`; `studies/` has a file per question, `models/` what is compared.
`analysis/` computes intervals, `output/` writes tables, figures and pages.
"""
