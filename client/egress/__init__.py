"""The egress gate: every request passes it before an app starts, every reply before it leaves.

Read in this order. A request: `server_request` parses it, `gate` and `admission` decide on it.
A reply: `message_parser` parses it, `reply_rules` (join, report, adapter) check it,
`reply_builder` builds the message that is sent.
`daily_limits` and `privacy_budget` count what was sent; `audit/` records every decision.
"""
