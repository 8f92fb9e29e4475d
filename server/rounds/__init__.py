"""The rounds of a run: enrol sites, dispatch, validate replies, aggregate, keep.

Begin with `federation`: a round from top to bottom.
`reply_validation` decides what is admitted; `checkpoint` what a resumed run starts from.
"""
