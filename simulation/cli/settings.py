"""`python -m simulation settings`: list of the keys that -c takes."""

from __future__ import annotations

from typing import Annotated

import typer

from common.config.run_config import RunConfig, Value, key_help, key_types
from common.config.tasks import TASKS
from common.console import narrow_table, output_console
from common.reporting.markdown import table_in_markdown
from common.reporting.phrasing import listed

_Markdown = Annotated[
    bool, typer.Option("--markdown", help="Print the page docs/reference/settings.md.")
]

INTRODUCTION = """# Settings of a run

Made from the code by `python -m simulation settings --markdown`; a test keeps the two in step.
Each key can be given as `-c key=value` to `python -m simulation run`, `python -m server run`, and
`flwr run .` (there in one text). A key that is not known is refused, with the nearest known one.

`task=paper` gives TASK_SETTINGS.
Each may be given beside it. With `step-minutes` set, a length of windows may be a time, e.g. `6h`
or `90min`; recorded and sent is the number of steps.

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
    help_of, types = key_help(), key_types()
    rows: dict[str, list[tuple[str, ...]]] = {}
    for key, value in RunConfig().flat().items():
        # A placeholder such as <run id> would be read as an HTML tag.
        meaning = help_of[key].replace("<", "&lt;").replace("|", r"\|")
        row = (f"`{key}`", types[key].__name__, _shown(value), meaning)
        rows.setdefault(key.rpartition(".")[0], []).append(row)
    header = ("key", "kind", "default", "meaning")
    sections = [
        f"{_heading(section)}\n{table_in_markdown(header, keys)}\n"
        for section, keys in rows.items()
    ]
    given = [f"`{key}={value}`" for key, value in TASKS["paper"].settings.items()]
    return "\n".join([INTRODUCTION.replace("TASK_SETTINGS", listed(given)), *sections])


def _heading(section: str) -> str:
    if not section:
        return "## The run\n"
    # "`lora.*`: the adapter (...)." is the section's class's own description.
    about = (type(getattr(RunConfig(), section)).__doc__ or "").splitlines()[0]
    return f"## {section}\n\n{about}\n"


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "empty" if value == "" else f"`{value}`"
