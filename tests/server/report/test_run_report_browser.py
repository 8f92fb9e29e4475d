from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples.browser import assert_accessible, browse, needs_browser

pytestmark = [pytest.mark.slow, needs_browser]


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_in_a_browser(
    evaluated_run: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    found = assert_accessible(evaluated_run / "report.html", width, scheme, tmp_path)
    assert found["texts"] > 1000
    assert len(found["figures"]) == 4 + 2 + 7 + 21
    scrolled = [box["caption"] for box in found["boxes"] if box["hidden"] > 1]
    assert bool(scrolled) == (width == 390), scrolled


def test_the_browser_check_detects_faults(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        '<!doctype html><h2>first</h2><div style="width: 999px; color: #999">faint</div>'
        "<svg></svg><table><tr><td>1</table>"
        '<img src="http://127.0.0.1:9/x.png"><script>console.error("wrong")</script>'
        '<div class="scroll" aria-label="wide" style="overflow-x: auto; width: 200px"><table>'
        '<tbody><tr><th style="min-width: 300px">a</th><td>1</td></tr></tbody></table></div>'
    )
    found, log = browse(page, 390, tmp_path)
    assert found["needs"] in (999, 1007)
    assert found["loads"] == 1
    assert "CONSOLE" in log
    assert "wrong" in log
    assert found["faintest"] == [pytest.approx(2.85, abs=0.01), "faint"]
    assert found["headings"] == [2]
    assert found["figures"] == [""]
    assert found["tables"] == ["", ""]
    (box,) = found["boxes"]
    assert (box["caption"], box["hint"], box["hidden"] > 100, box["first"] > 100) == (
        "wide", False, True, True,
    )  # fmt: skip
    assert found["cut"] == []
