"""Commands that show a prepared cohort and train nothing.

Begin with `sites`, the summary of each site.
`statistics` shows what the sites would send before the first round.
"""
