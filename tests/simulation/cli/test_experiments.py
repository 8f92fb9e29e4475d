from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from simulation.experiments.models import registry
from simulation.experiments.models.registry import METHODS

Command = Callable[..., int]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def arms(folder: Path) -> set[str]:
    return {row["arm"] for row in rows(folder)}


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_compare_writes_every_method_and_the_headline(
    experiment_command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert experiment_command("compare", seeds="0,1") == 0
    folder = tmp_path / "out" / "compare"
    networks = {METHODS[name].label for name in ("nhits", "patchtst")}
    there = networks if METHODS["nhits"].installed else set()
    assert arms(folder) == there | {
        "Last value",
        "Weighted mean",
        "Autoregressive",
        "Exponential smoothing",
        "Zero-shot",
        "LoRA, each site alone",
        "LoRA, federated",
        "LoRA, data pooled",
        "All weights, federated",
        "All weights, data pooled",
        "From scratch, data pooled",
    }
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "What each site and group gains" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "No site has 10 test patients" in " ".join(capsys.readouterr().out.split())
    # Each site, two vitals, every metric; the mean over seeds has an interval, a seed has none,
    # nor has a site of four test patients.
    for site, has_interval in (("all", True), ("micu", False)):
        some = [r for r in rows(folder) if r["site"] == site and r["metric"] == "mae"]
        assert {row["vital"] for row in some} == {"heart_rate", "mbp", "mean"}
        assert all(bool(r["low"]) == (has_interval and r["seed"] == "mean") for r in some)
    measured = (folder / "measured.csv").read_text(encoding="utf-8")
    assert measured.count(",seconds,") == 2 * (6 + len(there))


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_compare_says_what_it_leaves_out(
    experiment_command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _name: None)
    without = [word for name in ("federated-full", "scratch") for word in ("--without", name)]
    assert experiment_command("compare", *without) == 0
    found = arms(tmp_path / "out" / "compare")
    assert not {"Autoregressive", "Exponential smoothing", "N-HiTS, data pooled"} & found
    told = " ".join(capsys.readouterr().err.split())
    assert "Left out, since their packages are not installed: ar, ets, nhits, patchtst" in told
    page = (tmp_path / "out" / "compare" / "index.html").read_text(encoding="utf-8")
    assert "Autoregressive: left out, statsforecast is not installed" in page


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_sweep_aggregation_counts_the_bytes_of_each_wire_type(
    experiment_command: Command, tmp_path: Path
) -> None:
    assert experiment_command("sweep", "aggregation", "--only", "wire", "--only", "ranks") == 0
    table = rows(tmp_path / "out" / "aggregation")
    sent = {row["arm"]: float(row["value"]) for row in table if row["metric"] == "bytes"}
    assert sent["fedavg, int8"] < sent["fedavg, float16"] < sent["fedavg"]
    assert sent["svd, ranks 2/4/8"] < sent["fedavg, all at rank 8"]


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_sweep_aggregation_leaves_out_what_three_sites_cannot_have(
    experiment_command: Command, tmp_path: Path
) -> None:
    assert (
        experiment_command("sweep", "aggregation", "--only", "rules", "--only", "optimizers") == 0
    )
    found = arms(tmp_path / "out" / "aggregation")
    assert {"ffa", "svd", "flora", "fedex", "median", "trimmed-mean"} < found
    assert {"fedavg, fedavgm", "fedavg, fedadam", "fedavg, fedyogi"} < found
    assert not {"krum", "multi-krum"} & found


@pytest.mark.slow
def test_sweep_ranks_ends_with_all_weights(experiment_command: Command, tmp_path: Path) -> None:
    export = tmp_path / "paper"
    command = ("sweep", "ranks", "--ranks", "1,2", "--export", str(export))
    assert experiment_command(*command) == 0
    table = rows(tmp_path / "out" / "ranks")
    trained = {row["arm"]: float(row["value"]) for row in table if row["metric"] == "parameters"}
    assert trained["rank 2"] == 2 * trained["rank 1"]
    assert trained["All weights, federated"] > trained["rank 2"]
    figure = (tmp_path / "out" / "ranks" / "trade-off.svg").read_text(encoding="utf-8")
    assert figure.startswith("<?xml")
    assert "--ink: #" in figure
    assert (export / "trade-off.pdf").is_file()
    cost = (export / "arms-cost-mean-over-seeds.csv").read_text(encoding="utf-8").splitlines()
    assert cost[0].startswith("Arm,Seeds,Trained numbers,Exchanged (bytes),")
    assert f"rank 2,1,{trained['rank 2']!r}," in "\n".join(cost)


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_sweep_backbones_compares_each_with_its_own_zero_shot(
    experiment_command: Command, tiny_bolt: Path, tmp_path: Path
) -> None:
    assert experiment_command("sweep", "backbones", "--backbones", str(tiny_bolt)) == 0
    name = tiny_bolt.name
    assert arms(tmp_path / "out" / "backbones") == {
        "Last value",
        f"{name}, zero-shot",
        f"{name}, federated LoRA",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_sweep_sites_tests_every_division_on_the_same_sites(
    experiment_command: Command, tmp_path: Path
) -> None:
    assert experiment_command("sweep", "sites", "--counts", "2") == 0
    table = rows(tmp_path / "out" / "sites")
    scored = [row for row in table if row["metric"] == "wql" and row["arm"] == "2 sites at random"]
    assert {row["site"] for row in scored} == {"all", "ccu", "micu", "sicu"}
    assert "3 sites, as in the cohort" in {row["arm"] for row in table}


@pytest.mark.slow
@pytest.mark.usefixtures("figures_undrawn")
def test_sweep_privacy_spends_what_it_promises(experiment_command: Command, tmp_path: Path) -> None:
    assert experiment_command("sweep", "privacy", "--epsilons", "3", "--only", "b") == 0
    table = rows(tmp_path / "out" / "privacy")
    spent = [float(row["value"]) for row in table if row["metric"] == "epsilon"]
    assert len(spent) == 1
    assert 0 < spent[0] <= 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "ranks", "--ranks", "2,2"], "--ranks takes different numbers"),
        (["sweep", "ranks", "--ranks", "0"], "numbers from 1"),
        (["sweep", "aggregation", "--only", "rnaks"], "did you mean 'ranks'"),
        (["sweep", "privacy", "-c", "privacy.epsilon=1"], "sets privacy.epsilon itself"),
        (["compare", "--without", "etss"], "did you mean 'ets'"),
        (["compare", "-c", "seed=3"], "an experiment sets seed=3 itself"),
    ],
)
def test_mistakes_end_with_one_line(
    experiment_command: Command,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert experiment_command(*words) == 2
    assert message in capsys.readouterr().err
