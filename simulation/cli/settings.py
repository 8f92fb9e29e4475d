"""`python -m simulation settings`: list of the keys that -c takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from common.config.run_config import RunConfig, Value, key_help, key_types
from common.console import narrow_table, output_console

_Markdown = Annotated[
    bool, typer.Option("--markdown", help="Print the page docs/reference/settings.md.")
]

INTRODUCTION = """# Settings of a run

Made from the code by `python -m simulation settings --markdown`; a test keeps the two in step.
Each key can be given as `-c key=value` to `python -m simulation run`, `python -m server run`, and
`flwr run .` (there in one text). A key that is not known is refused, with the nearest known one.

A site's own settings, which no run can change, are in [site.toml](../../deploy/site/site.toml) and
[policy.toml](../../deploy/site/policy.toml); the coordinator's are in
[server.toml](../../deploy/server/server.toml).
"""


def settings(markdown: _Markdown = False) -> None:
    """List every setting of a run with its default and its meaning."""
    if markdown:
        typer.echo(settings_page(), nl=False)
        return
    table = narrow_table("Settings: -c KEY=VALUE", ["key", "default", "meaning"], [])
    help_of = key_help()
    for key, value in RunConfig().flat().items():
        table.add_row(key, str(value), help_of[key])
    output_console().print(table)


def settings_page() -> str:
    """Return the reference of all keys in Markdown, with a table per section."""
    return INTRODUCTION + "\n".join([*_lines(), ""])


def _lines() -> Iterator[str]:
    help_of, types, section = key_help(), key_types(), None
    for key, value in RunConfig().flat().items():
        name = key.rpartition(".")[0]
        if name != section:
            section = name
            yield from _heading(name)
        # A placeholder such as <run id> would be read as an HTML tag.
        meaning = help_of[key].replace("<", "&lt;").replace("|", r"\|")
        yield f"| `{key}` | {types[key].__name__} | {_shown(value)} | {meaning} |"


def _heading(section: str) -> Iterator[str]:
    yield from ("", f"## {section or 'The run'}", "")
    if section:
        # "`lora.*`: the adapter (...)." is the section's class's own description.
        yield (type(getattr(RunConfig(), section)).__doc__ or "").splitlines()[0]
        yield ""
    yield from ("| key | kind | default | meaning |", "|---|---|---|---|")


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value == "" else f"`{value}`"
