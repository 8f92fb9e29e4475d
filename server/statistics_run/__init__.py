"""A run that asks the sites for statistics before the first round, and trains nothing.

Begin with `collection`, the run itself; `output` writes statistics.json and its page.
What the statistics say about a site is judged in `server.statistics`.
"""
