"""The audit log of a site, and signed anchors that make changes to it evident.

Begin with `audit_log`: JSON lines, each with the hash of the one before.
`signed_anchor` signs its state; `anchor_shipping` sends it off the machine.
"""
