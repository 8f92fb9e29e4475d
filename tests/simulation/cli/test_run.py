from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.console import run
from common.files.paths import use_cohort
from simulation.cli import app

pytestmark = pytest.mark.usefixtures("figures_undrawn")

QUICK = ["-c", "lora.rank=2", "-c", "windows.context=24", "-c", "train.steps=2"]
QUICK += ["-c", "windows.vitals=heart_rate"]


def command(tiny_bolt: Path, out: Path, *more: str) -> list[str]:
    return ["run", "--backbone", str(tiny_bolt), "--out", str(out), "--rounds", "1", *QUICK, *more]


def test_a_run_prints_its_result_and_where_it_is(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_cohort(tiny_cohort)
    out = tmp_path / "run"
    assert run(app, command(tiny_bolt, out)) == 0
    text = capsys.readouterr().out
    first = (
        f"cohort: {tiny_cohort} (synthetic, 3 sites), the one prepared last; --data names another"
    )
    assert text.splitlines()[0] == first
    assert "against" in text
    assert "zero-shot" in text
    assert str(out / "report.html") in text
    assert json.loads((out / "evaluation.json").read_text())["split"] == "test"
    card = (out / "adapter" / "README.md").read_text()
    assert str(tmp_path) not in card


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--rounds", "0"], 2, "rounds must be from 1 to 10,000, got 0"),
        (["-c", "lora.rnk=4"], 2, "did you mean 'lora.rank'"),
        (["-c", "lora.alpha=x"], 2, "lora.alpha must be a number"),
        (["--engine", "slurm"], 2, "unknown engine 'slurm'"),
        (["--backbone", "chronos-bolt-nanno"], 6, "did you mean 'chronos-bolt-nano'"),
        (["--data", "/nowhere"], 4, "/nowhere holds no cohort"),
        (["-c", "step-minutes=5"], 2, "needs a cohort at 5-minute steps"),
        (["-c", "federation.min-sites=4"], 2, "has 3 site(s), the run needs"),
        (["-c", "lora.min-rank=9999"], 2, "lora.min-rank must be from 0 to 2, got 9999"),
        (["-c", "lora.scope=attention+feed-forward", "-c", "windows.horizon=999"], 6, "at most"),
        (["-c", "aggregation.rule=krum"], 10, "set aggregation.byzantine to at most 0"),
        (["--site", "micu.lora-rank=1"], 2, "site micu cannot take part: its lora-rank is 1"),
        (["--site", "micu.lora-rnk=1"], 2, "did you mean 'lora-rank'"),
        (["--site", "micuu.lora-rank=1"], 2, "unknown site 'micuu'; did you mean 'micu'"),
        (["--site", "micu.lora-rank=1", "--site", "micu.lora-rank=2"], 2, "is given twice"),
        (["-c", "federation.weights=ccu=1,micuu=2,sicu=1"], 2, "did you mean 'micu'"),
        (["-c", "federation.weights=ccu=1,sicu=1"], 2, "names no weight for micu; give one"),
    ],
)
def test_mistakes_end_with_one_line(
    tiny_bolt: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    use_cohort(tiny_cohort)
    out = tmp_path / "run"
    assert run(app, command(tiny_bolt, out, *options)) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not out.exists()


def test_other_steps_are_refused_before_torch_is_imported(
    tiny_cohort: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys; from common.console import run; from simulation.cli import app; "
        f"assert run(app, ['run', '--data', {str(tiny_cohort)!r}, '-c', 'task=paper']) == 2; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert "task=paper needs a cohort at 5-minute steps" in " ".join(capfd.readouterr().err.split())


def test_a_run_that_failed_in_round_one_is_started_anew_with_other_settings(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cohort(tiny_cohort)
    out = tmp_path / "run"

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("server.rounds.federation.aggregate", fail)
        assert run(app, command(tiny_bolt, out)) == 1
    assert (out / "config.json").exists()
    assert run(app, command(tiny_bolt, out, "-c", "seed=7")) == 0
    assert json.loads((out / "config.json").read_text())["settings"]["seed"] == 7


def test_without_a_cohort_the_next_step_is_named(
    tiny_bolt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, command(tiny_bolt, tmp_path / "run")) == 4
    assert "python -m simulation prepare" in capsys.readouterr().err


def test_the_example_of_the_help_works_as_written(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_cohort(tiny_cohort)
    assert run(app, ["run", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    example = re.search(r"E\.g\. (--site( (-c )?[a-z.-]+=[a-z0-9-]+)+)", shown)
    assert example, shown
    line = ["run", "--backbone", str(tiny_bolt), "--out", str(tmp_path / "run"), "--rounds", "1"]
    assert run(app, [*line, *QUICK[2:], *example[1].split()]) == 0
    sites = json.loads((tmp_path / "run" / "config.json").read_text())["sites"]
    assert {name: site["rank"] for name, site in sites.items()} == {"ccu": 8, "micu": 4, "sicu": 8}


def test_the_rounds_are_printed_once_and_without_codes(
    tiny_bolt: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_cohort(tiny_cohort)
    # As a library's import may leave it: Opacus' did.
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.StreamHandler(sys.stderr)])
    private = ["-c", "privacy.noise-multiplier=1", "-c", "privacy.noise-seed=1"]
    out = tmp_path / "run"
    assert run(app, command(tiny_bolt, out, *private)) == 0
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    lines = [re.sub(r", \d+ s$", "", line) for line in captured.err.splitlines()]
    assert lines == [
        "round 1 of 1: 3 of 3 sites",
        "last validation: 3 of 3 sites",
        f"released the adapter of round 1 in {out}",
    ]


def test_a_resumed_run_keeps_the_ranks_of_its_sites(
    tiny_bolt: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_cohort(tiny_cohort)
    out = tmp_path / "run"

    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    mixed = ["-c", "aggregation.rule=svd", "-c", "lora.min-rank=1", "--site", "micu.lora-rank=1"]
    with monkeypatch.context() as patch:
        patch.setattr("server.server_app.write_release", cut_off)
        assert run(app, command(tiny_bolt, out, *mixed)) == 130
    assert run(app, ["run", "--resume", str(out), "--site", "micu.lora-rank=2"]) == 2
    assert "the run began with 1" in capsys.readouterr().err
    assert run(app, ["run", "--resume", str(out)]) == 0
    error = capsys.readouterr().err
    assert "resuming after round 1" in error
    assert "round 1 of 1" not in error, "a round of the interrupted start"
    sites = json.loads((out / "config.json").read_text())["sites"]
    assert [site["rank"] for site in sites.values()] == [2, 1, 2]


def test_a_site_sets_its_own_rank(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> None:
    use_cohort(tiny_cohort)
    mixed = ["-c", "aggregation.rule=svd", "-c", "lora.min-rank=1", "--site", "micu.lora-rank=1"]
    assert run(app, command(tiny_bolt, tmp_path / "run", *mixed)) == 0
    sites = json.loads((tmp_path / "run" / "config.json").read_text())["sites"]
    assert [site["rank"] for site in sites.values()] == [2, 1, 2]


def test_a_run_cut_off_is_resumed(
    tiny_bolt: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use_cohort(tiny_cohort)
    out = tmp_path / "run"

    def cut_off(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("server.server_app.write_release", cut_off)
        assert run(app, command(tiny_bolt, out)) == 130
    assert not (out / "adapter").exists()
    assert run(app, command(tiny_bolt, out)) == 10
    assert f"resume it: python -m simulation run --resume {out}" in capsys.readouterr().err
    assert run(app, ["run", "--resume", str(out), "--rounds", "5"]) == 2
    assert "give none beside it" in capsys.readouterr().err
    assert run(app, ["run", "--resume", str(tmp_path)]) == 10
    assert "holds no run to resume; start one there with --out" in capsys.readouterr().err
    assert run(app, ["run", "--resume", str(out)]) == 0
    assert (out / "adapter").is_dir()
    assert (out / "evaluation.json").is_file()


@pytest.mark.parametrize("text", ["micu", "micu.lora-rank", ".lora-rank=2", "lora-rank=2"])
def test_a_site_setting_that_is_none_is_named(
    tiny_bolt: Path,
    tiny_cohort: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
) -> None:
    use_cohort(tiny_cohort)
    assert run(app, command(tiny_bolt, tmp_path / "run", "--site", text)) == 2
    assert "--site takes SITE.KEY=VALUE" in capsys.readouterr().err
