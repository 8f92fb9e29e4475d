"""Dry run: one round trained and checked at the site, with no coordinator and no network.

Begin with `dry_run`. `first_round` builds the requests, `offline_node` runs the real worker, app
process and gate, and `egress_report` writes every byte that would have left.
"""
