"""`python -m simulation settings`: every key that -c takes, its default and its meaning."""

from __future__ import annotations

from common.config import RunConfig, key_help
from common.console import narrow_table, output_console


def settings() -> None:
    """List every setting of a run with its default and its meaning."""
    table = narrow_table("Settings: -c KEY=VALUE", ["key", "default", "meaning"], [])
    help_of = key_help()
    for key, value in RunConfig().flat().items():
        table.add_row(key, str(value), help_of[key])
    output_console().print(table)
