"""The egress gate: every request passes it before an app starts, every reply before it leaves.

Begin with `gate`. `admission` judges requests; `rules` (adapter, join, report) judge replies.
`audit/` records what left; `privacy_budget` counts what it cost.
"""
