from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.policy.toml_edit import change_table, toml_line

TEXT = """# The site's own.
[[bundles]]  # first
sha256 = "aa"
until = '2026-01-01'   # agreed with the board

# Second, for the other study.
[[ bundles ]]
sha256 = "bb"

# What may leave.
[adapter]
until = "no bundle's"
tensors = '[a-z]'"""


def changed(text: str, index: int, **changes: str | None) -> str:
    edited = change_table(text, "bundles", index, changes)
    assert edited is not None
    return edited


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_a_change_leaves_all_other_bytes(end: str, last: str) -> None:
    text = (TEXT + last).replace("\n", end)
    old, new = "until = '2026-01-01'   #", 'until = "2027-01-01"   #'
    assert changed(text, 0, until="2027-01-01") == text.replace(old, new)
    added = f'sha256 = "bb"{end}by = "x"{end}'
    assert changed(text, 1, by="x") == text.replace(f'sha256 = "bb"{end}', added)
    gone = f"until = '2026-01-01'   # agreed with the board{end}"
    assert changed(text, 0, until=None) == text.replace(gone, "")
    new = changed(text, 2, sha256="cc", by=None)
    assert new.startswith(text)
    assert new.endswith(f'{end}[[bundles]]{end}sha256 = "cc"{end}')


def test_a_file_without_tables_gets_the_first() -> None:
    assert changed("", 0, a="b") == '[[bundles]]\na = "b"\n'
    assert changed("[x]", 0, a="b") == '[x]\n\n[[bundles]]\na = "b"\n'


@pytest.mark.parametrize(
    "text",
    [
        'bundles = [{sha256 = "aa"}]\n',
        "[[bundles]]\nsha256 = '''aa'''\n",
        '[[bundles]]\n"sha256" = "aa"\n',
        'note = """\n[[bundles]]\n"""\n[[bundles]]\nsha256 = "aa"\n',
    ],
)
def test_what_it_cannot_change_is_left_to_people(text: str) -> None:
    assert change_table(text, "bundles", 0, {"sha256": "bb"}) is None


def test_a_header_in_a_text_is_no_entry() -> None:
    text = "[[bundles]]\nnote = '''\n[adapter]\n'''\n"
    edited = change_table(text, "bundles", 0, {"by": "x"})
    assert edited is None or tomllib.loads(edited)["bundles"][0]["by"] == "x"


VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(values=st.lists(VALUES, min_size=1, max_size=3), new=VALUES)
def test_any_text_can_be_written_and_changed(values: list[str], new: str) -> None:
    text = ""
    for number, value in enumerate(values):
        text = changed(text, number, key=value, other="#")
    index = len(values) // 2
    tables = tomllib.loads(changed(text, index, key=new))["bundles"]
    values[index] = new
    assert tables == [{"key": value, "other": "#"} for value in values]
    assert tomllib.loads(toml_line("key", new)) == {"key": new}
