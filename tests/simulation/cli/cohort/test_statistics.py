"""`python -m simulation statistics` over a small cohort."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.console import run
from common.data.site_table import read_site_table
from simulation.cli import app


def command(cohort: Path, out: Path, *more: str) -> list[str]:
    return ["statistics", "--data", str(cohort), "--out", str(out), *more]


def test_each_site_is_counted_as_its_node_would(
    tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(app, command(tiny_cohort, out, "--threshold", "5")) == 0
    found = json.loads((out / "statistics.json").read_text())
    assert set(found["sites"]) == {path.stem for path in (tiny_cohort / "sites").glob("*.parquet")}
    for name, site in found["sites"].items():
        frame = read_site_table(tiny_cohort / "sites" / f"{name}.parquet").frame
        assert site["patients"] == frame["patient_id"].nunique()
        assert site["privacy"] is None
    assert (out / "statistics.html").is_file()
    assert "from 5" in capsys.readouterr().out


def test_noise_is_drawn_anew_and_stated(tiny_cohort: Path, tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        assert run(app, command(tiny_cohort, tmp_path / name, "--epsilon", "1")) == 0
        found = json.loads((tmp_path / name / "statistics.json").read_text())["sites"]
        texts.append(json.dumps(found))
        assert {site["privacy"]["epsilon"] for site in found.values()} == {1.0}
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--threshold", "4"], 2),
        (["--epsilon", "-1"], 2),
        (["--epsilon", "nan"], 2),
        (["--epsilon", "1", "--delta", "1"], 2),
        (["--epsilon", "1e-9"], 2),
        (["--data", "/nowhere"], 4),
    ],
)
def test_what_is_out_of_range_ends_in_one_line(
    tiny_cohort: Path,
    tmp_path: Path,
    more: list[str],
    code: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = [] if "--data" in more else ["--data", str(tiny_cohort)]
    assert run(app, ["statistics", *data, "--out", str(tmp_path / "out"), *more]) == code
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "out" / "statistics.json").exists()
