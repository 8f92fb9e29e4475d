"""Rounds of a run: enroll sites, send requests, validate replies, aggregate, checkpoint.

Begin with `federation`: one round from top to bottom. `round_request` is what a site is sent,
`reply_validation` decides which replies are used, `checkpoint` is what a resumed run starts from.
"""
