"""A hospital's own split of its patients: by a column of its table, or in time.

Begin with `split_rule.py`, the section `[split]` of mapping.toml; `stay_sides.py` assigns whole
patients by it, and `split_findings.py` warns where such a split does not mean what it seems to.
"""
