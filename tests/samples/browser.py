"""Pages measured in a real browser: contrast, names, and whether anything is cut."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
DARK = "--blink-settings=preferredColorScheme=0"

PROBE = """\
<!doctype html><title>waiting</title>
<iframe id="frame" style="width: {width}px; height: 30000px; border: 0" src="{name}"></iframe>
<script>
const channels = (text) => text.match(/[0-9.]+/g).map(Number);
const luminance = (colour) => {{
  const linear = colour.slice(0, 3).map((value) => value / 255).map(
    (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
}};
const drawn = () => new Promise((done) => setTimeout(done, 500));
document.getElementById("frame").addEventListener("load", async (event) => {{
  const inner = event.target.contentWindow, page = inner.document, root = page.documentElement;
  const all = (what) => [...page.querySelectorAll(what)];
  all("details").forEach((details) => {{ details.open = true; }});
  await drawn();
  const style = (element) => inner.getComputedStyle(element);
  const behind = (element) => {{
    for (let at = element; at; at = at.parentElement) {{
      const colour = channels(style(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }}
    return [255, 255, 255];
  }};
  const ratio = (element) => {{
    const inFigure = element.namespaceURI.endsWith("svg");
    const colour = channels(style(element)[inFigure ? "fill" : "color"]);
    const pair = [luminance(colour), luminance(behind(element))].sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  }};
  const texts = [], walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {{
    const element = walker.currentNode.parentElement;
    const shown = walker.currentNode.textContent.trim() && element.getClientRects().length;
    if (shown) texts.push([ratio(element), walker.currentNode.textContent.trim()]);
  }}
  const named = (element) => (element.getAttribute("aria-labelledby") || "").split(" ")
    .map((id) => page.getElementById(id)?.textContent.trim() || "").join(" ").trim();
  const boxes = all(".scroll").map((box) => {{
    const edge = box.getBoundingClientRect().right, hint = box.querySelector(".hint");
    const ends = [...box.querySelectorAll("tbody tr")].map((row) => row.cells[1])
      .map((cell) => cell.getBoundingClientRect().right - edge);
    return {{
      caption: box.getAttribute("aria-label"),
      hidden: box.scrollWidth - box.clientWidth,
      hint: hint !== null && hint.getClientRects().length > 0
        && hint.getBoundingClientRect().right <= edge + 1,
      first: Math.max(...ends),
    }};
  }});
  // A shape or a word of a figure, or a line of a cell, that reaches over the page's edge.
  const cut = all("figure svg text, th, caption, pre code, .tiles dd, p, li").filter((element) => {{
    const box = element.getBoundingClientRect(), scrolls = element.closest(".scroll");
    if (scrolls) return element.scrollWidth > Math.ceil(box.width) + 1;
    return box.left < -1 || box.right > inner.innerWidth + 1;
  }}).map((element) => element.textContent.trim());
  document.title = JSON.stringify({{
    boxes, cut,
    width: inner.innerWidth,
    needs: root.scrollWidth,
    loads: inner.performance.getEntriesByType("resource").length,
    paper: behind(page.body)[0],
    texts: texts.length,
    faintest: texts.sort((a, b) => a[0] - b[0])[0],
    headings: all("h1, h2, h3, h4, h5, h6").map((heading) => Number(heading.tagName[1])),
    figures: all("svg:not([aria-hidden=true])").map(
      (figure) => figure.getAttribute("role") === "img" ? named(figure) : ""),
    tables: all("table").map((table) => table.caption ? table.caption.textContent.trim() : ""),
  }});
}});
</script>
"""


def browse(page: Path, width: int, folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Return a browser's measurements of a page in a frame of that width, and its log.

    Folded parts are opened first.
    """
    # A window cannot be as narrow as a phone, a frame can.
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(width=width, name=page.as_uri()))
    command = [
        str(CHROMIUM),
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        f"--user-data-dir={folder / 'profile'}",
        *("--allow-file-access-from-files", "--hide-scrollbars", "--enable-logging=stderr"),
        *(
            *options,
            f"--window-size={width + 100},1000",
            "--virtual-time-budget=10000",
            "--dump-dom",
            probe.as_uri(),
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    title = re.search("<title>(.*?)</title>", done.stdout, re.DOTALL)
    found: dict[str, Any] = json.loads(html.unescape(title[1] if title else ""))
    return found, done.stderr


needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason=f"needs a browser on the PATH: {' or '.join(BROWSERS)}"
)


def assert_accessible(page: Path, width: int, scheme: str, folder: Path) -> dict[str, Any]:
    """Check a page at a width and in a scheme; return the measurements."""
    found, log = browse(page, width, folder, *([DARK] if scheme == "dark" else []))
    assert (found["width"], found["needs"], found["loads"]) == (width, width, 0)
    assert "CONSOLE" not in log
    assert (found["paper"] < 128) == (scheme == "dark")
    contrast, text = found["faintest"]
    assert contrast >= 4.5, text
    levels = found["headings"]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(len(name) > 30 for name in found["figures"])
    assert all(found["tables"])
    assert not found["cut"]
    for box in found["boxes"]:
        # Whoever sees a part of a table sees that there is more, and its first numbers.
        assert box["hint"] == (box["hidden"] > 1), box
        assert box["first"] <= 1, box
    return found
