"""Dry run: one round trained and judged at the site, with no coordinator and no network.

Begin with `dry_run`; `offline_node` runs the real worker, app process and gate.
`egress_report` writes every byte that would have left.
"""
