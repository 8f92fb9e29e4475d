from __future__ import annotations

import re
import zlib
from xml.etree import ElementTree as ET

from common.reporting.components import LegendEntry, raw_html
from common.reporting.export.figure_files import figure_files, light_scheme
from common.reporting.phrasing import IntervalJson
from common.reporting.svg import Drawing, differences_figure

ROWS: dict[str, IntervalJson] = {
    "Mean": {"estimate": -0.03, "low": -0.04, "high": -0.02},
    "Heart rate": {"estimate": 0.01, "low": None, "high": None},
}
LINE = '<line x1="1" x2="27" y1="6" y2="6" style="stroke: var(--series-2); stroke-dasharray: 5 4"/>'
DOT = '<circle cx="14" cy="6" r="3" style="fill: var(--accent)"/>'
LEGEND = [
    LegendEntry(raw_html(LINE), "sicu"),
    LegendEntry(raw_html(DOT), "a long label, which is wrapped below the figure " * 3),
]


def files() -> dict[str, bytes]:
    return figure_files(differences_figure(ROWS, "WQL"), LEGEND)


def streams(pdf: bytes) -> bytes:
    found = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return b"\n".join(zlib.decompress(one) for one in found if one[:1] == b"x")


def test_a_drawing_stays_one_on_its_way_to_the_page() -> None:
    drawing = raw_html(differences_figure(ROWS, "WQL"))
    assert isinstance(drawing, Drawing)
    assert drawing.name == "differences-wql"
    assert str(drawing).startswith("<svg")


def test_the_files_are_the_same_at_every_export_and_have_no_date() -> None:
    first, second = files(), files()
    assert first == second
    assert b"Date" not in first["pdf"]
    assert b"<dc:date>" not in first["svg"]


def test_the_pdf_is_vector_graphics_with_embedded_fonts() -> None:
    pdf = files()["pdf"]
    assert pdf.startswith(b"%PDF-")
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"/Subtype /Image" not in pdf


def test_no_placeholder_colour_is_left_and_the_legend_has_its_own() -> None:
    made = files()
    text = made["svg"].decode()
    ET.fromstring(text)
    assert not re.search(r"#0[12]0[23]0", text)
    scheme = light_scheme()
    for name in ("--accent", "--ink", "--rule", "--series-2"):
        assert scheme[name] in text
    assert "sicu" in text
    drawn = streams(made["pdf"])
    parts = [int(scheme["--series-2"][at : at + 2], 16) / 255 for at in (1, 3, 5)]
    assert " ".join(f"{part:.10f}".rstrip("0").rstrip(".") for part in parts).encode() in drawn
    assert b"0.0039215686 0.0078431373" not in drawn
