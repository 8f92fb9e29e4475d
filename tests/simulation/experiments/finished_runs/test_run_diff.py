from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.console import run
from common.errors import UsageError
from common.evaluation.bootstrap import LEAST_PATIENTS
from common.evaluation.evaluate import pool_evaluations
from common.evaluation.paired_difference import compare
from server.release.evaluation import evaluate_run
from simulation.cli import app
from simulation.experiments.finished_runs.diff_tables import exported_tables, statements
from simulation.experiments.finished_runs.finished_run import (
    find_tables,
    read_finished_run,
    score_run,
)
from simulation.experiments.finished_runs.run_diff import RunDiff, diff_runs
from tests.samples.run_folders import random_adapter, run_config_of, run_rounds_of, write_run


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, tiny_bolt: Path, tiny_cohort: Path
) -> dict[str, Path]:
    """Three evaluated runs that differ in the adapter, their seed and a setting."""
    folder = tmp_path_factory.mktemp("runs")
    made = {}
    for seed, name in enumerate(("first", "second", "third")):
        adapter = random_adapter(tiny_bolt, seed)
        config = run_config_of(tiny_bolt, adapter)
        config["settings"] |= {"data": str(tiny_cohort), "seed": seed}
        config["settings"] |= {"train.epochs": 1 if seed == 0 else 2, "out": f"/somewhere/{name}"}
        made[name] = folder / name
        write_run(made[name], config, run_rounds_of(), adapter, 2)
        evaluate_run(made[name], tiny_cohort, examples=False)
    return made


@pytest.fixture
def changed(runs: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Copy the second run and change its evaluation.json."""

    def change(change_evaluation: Callable[[dict[str, Any]], object]) -> Path:
        folder = tmp_path / "changed"
        shutil.copytree(runs["second"], folder)
        path = folder / "evaluation.json"
        evaluation = json.loads(path.read_text())
        change_evaluation(evaluation)
        path.write_text(json.dumps(evaluation))
        return folder

    return change


def test_the_difference_is_that_of_the_paired_bootstrap(runs: dict[str, Path]) -> None:
    a, b = (read_finished_run(runs[name]) for name in ("first", "second"))
    found = diff_runs([a], [b])
    tables = find_tables([a, b], found.sites, None)
    scores = [score_run(one, tables) for one in (a, b)]
    pooled = [pool_evaluations(one) for one in scores]
    expected = compare(pooled[1], pooled[0]).to_json()
    for vital, row in expected["vitals"].items():
        for metric, entry in row.items():
            for kind, interval in entry.items():
                got = found.scopes["all"]["vitals"][vital][metric][kind]
                assert got == pytest.approx(interval, nan_ok=True), (vital, metric, kind)
    assert found.scopes["all"]["mean"]["wql"]["relative"] == pytest.approx(
        expected["mean"]["wql"]["relative"]
    )
    # The scores are those of the run's own evaluation.
    own = b.evaluation["pooled"]["models"]["adapter"]["vitals"]["spo2"]["mae"]
    assert found.scopes["all"]["vitals"]["spo2"]["mae"]["b"]["estimate"] == pytest.approx(own)


def _two(runs: dict[str, Path]) -> RunDiff:
    return diff_runs([read_finished_run(runs["first"])], [read_finished_run(runs["second"])])


def test_only_settings_that_differ_are_listed(runs: dict[str, Path]) -> None:
    found = _two(runs)
    assert found.settings == {"seed": ([0], [1]), "train.epochs": ([1], [2])}


def test_a_run_does_not_differ_from_itself(runs: dict[str, Path]) -> None:
    one = read_finished_run(runs["first"])
    found = diff_runs([one], [one])
    assert not found.settings
    assert found.scopes["all"]["mean"]["wql"]["relative"]["estimate"] == 0
    assert any("no difference shown" in line for line in statements(found))


def test_several_seeds_give_the_mean_over_pairs(runs: dict[str, Path]) -> None:
    a, b, c = (read_finished_run(folder) for folder in runs.values())
    found = diff_runs([a], [c, b])
    assert [run.folder.name for run in found.b] == ["second", "third"]
    entry = found.scopes["all"]["mean"]["wql"]
    assert len(entry["seeds"]) == 2
    assert entry["relative"]["estimate"] == pytest.approx(np.mean(entry["seeds"]))
    assert any("means over 2 pairs" in line for line in statements(found))
    with pytest.raises(UsageError, match="paired by seed"):
        diff_runs([a, b], [a, b, c])


def _other_tables(evaluation: dict[str, Any]) -> None:
    for site in evaluation["data"].values():
        site["sha256"] = "0" * 64


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_other_tables, "no site table is the same"),
        (lambda evaluation: evaluation.update(split="validation"), "different splits"),
        (
            lambda evaluation: evaluation["settings"].update({"windows.stride": 3}),
            "windows.stride is 6 and 3",
        ),
    ],
)
def test_runs_tested_on_other_windows_are_not_compared(
    runs: dict[str, Path],
    changed: Callable[..., Path],
    change: Callable[[dict[str, Any]], object],
    reason: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    file = tmp_path / "diff.json"
    command = ["diff", str(runs["first"]), str(changed(change)), "--json", str(file)]
    assert run(app, command) == 2
    shown = capsys.readouterr()
    assert reason in shown.err
    assert "train.epochs" in shown.out  # settings and cost are shown all the same
    found = json.loads(file.read_text())
    assert found["scopes"] is None
    assert reason in found["cohort"]["refusal"]


def test_shared_sites_are_compared_and_the_others_named(
    runs: dict[str, Path], changed: Callable[..., Path]
) -> None:
    other = changed(lambda evaluation: evaluation["data"]["micu"].update(sha256="0" * 64))
    found = diff_runs([read_finished_run(runs["first"])], [read_finished_run(other)])
    assert (found.sites, found.left_out) == (["ccu", "sicu"], ["micu"])
    assert set(found.scopes) == {"all", "ccu", "sicu"}
    assert not found.to_json()["cohort"]["same"]
    assert any("Left out" in line and "micu" in line for line in statements(found))


def test_every_site_and_metric_is_in_an_exported_table(runs: dict[str, Path]) -> None:
    found = _two(runs)
    tables = exported_tables(found)
    metrics = found.scopes["all"]["mean"]
    expected = {f"{m}-by-vital-sign-{s}" for m in metrics for s in ("all", "ccu", "micu", "sicu")}
    expected -= {"mae-by-vital-sign-all"}
    assert expected | {"mae-by-vital-sign", "settings", "cost"} <= set(tables)


def test_the_command_fits_80_columns(
    runs: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("common.console.PIPED_COLUMNS", 80)
    out = tmp_path / "files"
    command = ["diff", str(runs["first"]), str(runs["second"]), "--export", str(out)]
    assert run(app, command) == 0
    text = capsys.readouterr().out
    tables = text[text.index("Settings") : text.index("Exported")]
    assert max(map(len, tables.splitlines())) <= 80
    for word in ("train.epochs", "WQL, mean over vital signs", "B relative to A", "HR, bpm", "ccu"):
        assert word in tables
    assert "One run each" in " ".join(tables.split())
    assert (out / "wql-by-site.csv").is_file()


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (lambda run: (run / "evaluation.json").unlink(), 2, "server evaluate --adapter"),
        (lambda run: shutil.rmtree(run / "adapter"), 2, "has released no adapter"),
        (lambda run: (run / "config.json").unlink(), 10, "holds no run"),
    ],
)
def test_a_folder_that_cannot_be_compared_is_refused_with_what_to_do(
    runs: dict[str, Path],
    tmp_path: Path,
    prepare: Callable[[Path], object],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs["second"], folder)
    prepare(folder)
    assert run(app, ["diff", str(runs["first"]), str(folder)]) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "diff takes two runs, got 1"),
        (["{second}", "{third}"], "diff takes two runs, got 3"),
        (["{second}", "--data", "{first}"], "give the cohort's folder with --data"),
        (["{second}", "--export", "{first}"], "which no export wrote"),
    ],
)
def test_wrong_arguments_end_with_one_line(
    runs: dict[str, Path], more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {name: str(folder) for name, folder in runs.items()}
    command = ["diff", names["first"], *(text.format(**names) for text in more)]
    assert run(app, command) == 2
    assert message in capsys.readouterr().err


def test_a_stale_evaluation_is_noticed(runs: dict[str, Path], changed: Callable[..., Path]) -> None:
    stale = changed(lambda evaluation: evaluation["adapter"].update(digest="0" * 64))
    with pytest.raises(UsageError, match="of another adapter than the one released"):
        read_finished_run(stale)


def _config_changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_training_on_other_data_is_said(
    runs: dict[str, Path], changed: Callable[..., Path]
) -> None:
    """Runs trained on different cohorts, both evaluated on one: not a matter of settings alone."""
    assert not any("trained on different data" in line for line in statements(_two(runs)))
    folder = _config_changed(
        changed(lambda _: None), lambda config: config["sites"]["micu"].update(patients=99)
    )
    found = diff_runs([read_finished_run(runs["first"])], [read_finished_run(folder)])
    ((fact, (a, b)),) = found.training.items()
    assert (fact, b) == ("micu: patients", [99])
    assert a != b
    assert any("trained on different data" in line for line in statements(found))
    assert "micu: patients" in [row.label for row in exported_tables(found)["settings"].rows]
    assert found.to_json()["training"]["micu: patients"]["b"] == [99]
    _config_changed(folder, lambda config: config["sites"].pop("micu"))
    found = diff_runs([read_finished_run(runs["first"])], [read_finished_run(folder)])
    assert found.training == {"micu: trained": (["yes"], ["no"])}


def test_seeds_are_paired_by_what_they_are(
    runs: dict[str, Path], changed: Callable[..., Path]
) -> None:
    first, second, third = (read_finished_run(folder) for folder in runs.values())
    with pytest.raises(UsageError, match="two runs of B have the seed 1"):
        diff_runs([first], [second, second])
    reseeded = read_finished_run(
        _config_changed(changed(lambda _: None), lambda config: config["settings"].update(seed=7))
    )
    text = " ".join(statements(diff_runs([first, second], [third, reseeded])))
    assert "different seeds" in text
    assert "0 with 2 and 1 with 7" in text
    assert "different seeds" not in " ".join(
        statements(diff_runs([first, second], [first, second]))
    )


def test_nothing_is_said_to_be_shown_over_few_patients(runs: dict[str, Path]) -> None:
    """Over three patients, percentile intervals exclude zero in 29 of 100 pairs of equal runs."""
    found = _two(runs)
    rows = {row.label: row.cells for row in exported_tables(found)["wql-by-site"].rows}
    few = [site for site, entry in found.scopes.items() if entry["patients"] < LEAST_PATIENTS]
    assert few
    assert all(rows[site][-1] == "too few" for site in few if site in rows)
