from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from common.reporting.cells import decimal, relative
from common.reporting.components import Row, Table
from common.reporting.export.table_files import csv_table, latex_table, latex_text
from common.reporting.phrasing import NOTHING

INTERVAL = {"estimate": -1 / 30, "low": -0.043, "high": 0.021}
TABLE = Table(
    "MAE_1 & 50 % of it",
    ["Vital sign", "Patients", "MAE", "vs zero-shot"],
    [
        Row("Heart rate", ["1,234", decimal(1 / 3), relative(INTERVAL)], unit="bpm"),
        Row("Temperature", [NOTHING, decimal(None), relative({})], unit="°C"),
        Row("Mean", ["7", decimal(2.0), relative(INTERVAL)], mean=True),
    ],
)


def test_csv_has_full_precision_units_and_a_column_for_each_end() -> None:
    rows = list(csv.reader(io.StringIO(csv_table(TABLE))))
    name = "vs zero-shot"
    ends = [f"{name}, 95 % {end} (%)" for end in ("low", "high")]
    assert rows[0] == ["Vital sign", "unit", "Patients", "MAE", f"{name} (%)", *ends]
    assert rows[1][:4] == ["Heart rate", "bpm", "1234", repr(1 / 3)]
    assert [float(value) for value in rows[1][4:]] == [100 * v for v in INTERVAL.values()]
    assert rows[2] == ["Temperature", "°C", "", "", "", "", ""]


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "+A1", "-A1", "@SUM(1)"])
def test_csv_has_no_formula_of_someone_else(text: str) -> None:
    table = Table("t", ["Site", "Reason"], [Row(text, [text])], text=True)
    assert list(csv.reader(io.StringIO(csv_table(table))))[1] == [f"'{text}", f"'{text}"]


def test_markup_of_the_page_is_in_no_file() -> None:
    cell = Markup("one<br><code>a &amp; b</code>")
    table = Table("t", ["Site", "What"], [Row("x", [cell])], text=True)
    assert "one a & b" in csv_table(table)
    assert r"one a \& b" in latex_table(table, "t")


def test_latex_has_rounded_numbers_and_escapes_everything_else() -> None:
    text = latex_table(TABLE, "results-mae")
    assert r"\caption{MAE\_1 \& 50 \% of it}" in text
    assert r"Heart rate (bpm) & 1,234 & 0.333 & $-$3.33~\% {[}$-$4.30, +2.10{]} \\" in text
    assert r"Temperature ($^\circ$C) & -- & -- & -- \\" in text
    assert text.index(r"\midrule", text.index("Temperature")) < text.index("Mean &")
    check_latex(text)


@given(st.text(max_size=30))
def test_no_text_breaks_the_latex(text: str) -> None:
    printed = latex_text(text)
    check_latex(f"\\begin{{tabular}}{{l}}\n{printed} \\\\\n\\end{{tabular}}\n")
    assert all(character.isascii() or "À" <= character <= "ÿ" for character in printed)


KNOWN = {
    *("begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule"),
    *("textbackslash", "textasciitilde", "textasciicircum", "ldots", "circ", "times", "pm"),
    *("leq", "geq", "approx", "varepsilon", "delta", "sigma", "alpha", "mu"),
}
ALONE = re.compile(r"(?<!\\)[#_^~]")


def check_latex(text: str) -> None:
    """Parse what LaTeX would refuse: commands, groups, mathematics, columns of each row."""
    body = re.sub(r"(?m)^%.*$", "", text)
    commands = re.findall(r"\\([a-zA-Z]+)", body)
    assert set(commands) <= KNOWN
    bare = body.replace(r"\\", "")
    unescaped = re.sub(r"\\[{}$&#_%]", "", bare)
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == 0
    outside = "".join(unescaped.split("$")[::2])
    assert not ALONE.search(outside.replace("~", ""))
    assert "%" not in unescaped
    layout = re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)
    assert layout
    for line in body.splitlines():
        if line.endswith(r"\\"):
            cells = re.sub(r"\\&", "", line).count("&") + 1
            assert cells == len(layout.group(1))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.slow
def test_latex_compiles_with_booktabs_alone(tmp_path: Path) -> None:
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n"
        f"{latex_table(TABLE, 't')}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
