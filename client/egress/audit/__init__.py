"""The audit log of a site, and signed anchors that make changes to it evident.

Begin with `audit_log`, which the gate writes; `hash_chain` is its format and verifies it.
`signed_anchor` signs its state, `anchor_shipping` ships that off the machine, `anchor_thread` does
so by itself in a running node, and `anchor_verification` checks what was shipped.
"""
