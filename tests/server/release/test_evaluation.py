from __future__ import annotations

import io
import json
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos.chronos_bolt import ChronosBoltModelForForecasting
from peft import PeftModel
from rich.console import Console

from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_into, save_peft_folder
from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.backbones.lora import add_adapter, merged_model
from common.config.run_config import LoraConfig, RunConfig
from common.data.site_table import read_site_table, write_site_table
from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import Windows, WindowSettings, make_windows
from common.errors import AdapterError, CohortError, FederationError, UsageError
from common.evaluation.evaluate import LEVELS
from common.evaluation.metrics import METRICS
from server.release.adapter_source import load_adapter
from server.release.console_tables import evaluation_tables
from server.release.evaluation import evaluate_adapter, evaluate_run
from server.release.evaluation_data import read_evaluation_sites
from server.report.example_forecasts import EXAMPLE_QUANTILES

MakeRun = Callable[..., Path]


def evaluation_of(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return result


def scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from scalars(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from scalars(inner)
    else:
        yield value


def windows_of(cohort: Path, site: str = "micu", split: str = "test") -> Windows:
    """The windows of a site, cut as in `run_config`."""
    table = read_site_table(cohort / "sites" / f"{site}.parquet")
    return make_windows(table, split, WindowSettings(context_steps=24, horizon_steps=4))


def as_source(cohort: Path, folder: Path, source: str) -> Path:
    """The same cohort under another source's name."""
    for path in (cohort / "sites").glob("*.parquet"):
        table = read_site_table(path)
        write_site_table(
            replace(table, info=replace(table.info, source=source)), folder / "sites" / path.name
        )
    return folder


def test_merged_weights_forecast_as_unmerged_ones(
    tiny_bolt: Path, tiny_cohort: Path, trained_adapter: Adapter
) -> None:
    windows = windows_of(tiny_cohort)
    loaded = load_backbone(str(tiny_bolt))
    merged = ModelForecaster(loaded.backbone, merged_model(loaded, trained_adapter))
    frozen = ModelForecaster(loaded.backbone, loaded.model)
    before = frozen.forecast(windows.context, windows.vital, 4)
    one = merged.forecast(windows.context, windows.vital, 4)
    other = load_backbone(str(tiny_bolt))
    wrapped = add_adapter(other.model, other.backbone, LoraConfig(rank=2, alpha=4.0))
    load_into(trained_adapter, wrapped)
    unmerged = ModelForecaster(other.backbone, wrapped)
    two = unmerged.forecast(windows.context, windows.vital, 4)
    np.testing.assert_allclose(one, two, atol=1e-4, rtol=1e-6)
    assert np.abs(one - before).max() > 0.1
    # The frozen model is neither changed nor wrapped by merging into its copy.
    np.testing.assert_array_equal(frozen.forecast(windows.context, windows.vital, 4), before)


def test_an_adapter_of_other_weights_or_layers_is_not_merged(
    tiny_bolt: Path, trained_adapter: Adapter
) -> None:
    loaded = load_backbone(str(tiny_bolt))
    with pytest.raises(AdapterError, match="use the weights that it was trained on"):
        merged_model(loaded, replace(trained_adapter, backbone_digest="ab" * 32))
    for part, message in (("layer.0", "use the same backbone"), ("block", "does not fit")):
        tensors = {n.replace(part, f"{part}x"): t for n, t in trained_adapter.tensors.items()}
        with pytest.raises(AdapterError, match=message):
            merged_model(loaded, replace(trained_adapter, tensors=tensors))


@pytest.mark.usefixtures("figures_undrawn")
def test_an_evaluation_is_written_and_updates_report_and_card(
    make_run: MakeRun, tiny_cohort: Path
) -> None:
    run = make_run()
    adapter = (run / "adapter" / "adapter_model.safetensors").read_bytes()
    steps: list[str] = []
    result = evaluate_run(run, tiny_cohort, progress=steps.append)
    assert json.loads((run / "evaluation.json").read_text()) == result
    assert (run / "adapter" / "adapter_model.safetensors").read_bytes() == adapter
    assert "Not evaluated" not in (run / "adapter" / "README.md").read_text()
    assert "not yet evaluated" not in (run / "report.html").read_text()
    assert any("micu" in text for text in steps)
    for block in (result["pooled"], *result["sites"].values()):
        assert list(block["models"]) == ["last_value", "ewm", "zero_shot", "adapter"]
        for table in block["models"].values():
            assert list(table["vitals"]) == list(VITAL_NAMES)
            assert set(METRICS) < set(table["mean"])
        assert set(block["differences"]) == {"zero_shot", "last_value", "ewm"}
    assert set(result["sites"]) == {"ccu", "micu", "sicu"}
    assert result["settings"]["windows.context"] == 24


def test_the_same_evaluation_gives_the_same_bytes(
    evaluated_run: Path, make_run: MakeRun, tiny_cohort: Path
) -> None:
    run = make_run()
    evaluate_run(run, tiny_cohort)
    for name in ("evaluation.json", "report.html", "adapter/README.md"):
        assert (run / name).read_bytes() == (evaluated_run / name).read_bytes(), name


def test_errors_are_those_of_the_forecasts(
    evaluated_run: Path, tiny_cohort: Path, tiny_bolt: Path, trained_adapter: Adapter
) -> None:
    result = evaluation_of(evaluated_run)
    windows = windows_of(tiny_cohort)
    loaded = load_backbone(str(tiny_bolt))
    models = {"zero_shot": loaded.model, "adapter": merged_model(loaded, trained_adapter)}
    spo2 = VITAL_NAMES.index("spo2")
    of_vital = windows.of_vital(spo2)
    for name, model in models.items():
        forecast = ModelForecaster(loaded.backbone, model).forecast(
            of_vital.context, of_vital.vital, 4
        )
        error = np.nanmean(np.abs(of_vital.target - forecast[..., 4]))
        row = result["sites"]["micu"]["models"][name]["vitals"]["spo2"]
        assert row["mae"] == pytest.approx(error, rel=1e-5)
        assert row["windows"] == len(of_vital)
    values = {name: result["sites"]["micu"]["models"][name]["vitals"]["spo2"] for name in models}
    difference = result["sites"]["micu"]["differences"]["zero_shot"]["vitals"]["spo2"]["mae"]
    relative = values["adapter"]["mae"] / values["zero_shot"]["mae"] - 1
    assert difference["relative"]["estimate"] == pytest.approx(relative)


@pytest.mark.usefixtures("figures_undrawn")
def test_an_adapter_that_does_nothing_differs_by_nothing(
    make_run: MakeRun, tiny_cohort: Path, trained_adapter: Adapter
) -> None:
    zero = {
        name: np.zeros_like(t) if ".lora_B." in name else t
        for name, t in trained_adapter.tensors.items()
    }
    run = make_run(adapter=replace(trained_adapter, tensors=zero), best_round=0)
    result = evaluate_run(run, tiny_cohort)
    relative = result["pooled"]["differences"]["zero_shot"]["mean"]["wql"]["relative"]
    assert relative == {"estimate": 0.0, "low": 0.0, "high": 0.0}
    assert "cannot be told apart" in (run / "report.html").read_text()


def test_the_result_has_the_calibration_of_adapter_and_backbone(evaluated_run: Path) -> None:
    pooled = evaluation_of(evaluated_run)["pooled"]
    assert list(pooled["calibration"]) == ["zero_shot", "adapter"]
    for model, calibration in pooled["calibration"].items():
        assert calibration["levels"] == list(LEVELS)
        for vital, curve in calibration["vitals"].items():
            shares = [one["estimate"] for one in curve["below"]]
            assert shares == sorted(shares)
            covered = pooled["models"][model]["vitals"][vital]["coverage_80"]
            assert curve["inside_80"]["estimate"] == pytest.approx(covered)
            assert curve["inside_80"]["low"] <= covered <= curve["inside_80"]["high"]
        assert len(calibration["mean"]["below"]) == len(LEVELS)


@pytest.mark.usefixtures("figures_undrawn")
def test_the_cohort_s_record_goes_into_the_result(
    evaluated_run: Path, make_run: MakeRun, tiny_cohort: Path
) -> None:
    cohort = evaluation_of(evaluated_run)["cohort"]
    assert [step["stays"] for step in cohort["flow"]] == [60, 52]
    assert cohort["inputs"] == {"WALKS": "0f" * 32}
    assert evaluate_run(make_run(), tiny_cohort / "sites" / "micu.parquet")["cohort"] is None


@pytest.mark.usefixtures("figures_undrawn")
def test_table_1_leaves_a_prepared_cohort_without_small_cells(
    evaluated_run: Path, make_run: MakeRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    own = json.loads((tiny_cohort / "cohort.json").read_text())["characteristics"]
    assert own["sites"]["ccu"]["sex"]["female"] == 4
    published = evaluation_of(evaluated_run)["cohort"]["characteristics"]
    assert published["sites"]["ccu"]["sex"]["female"] == "*"
    assert published["overall"]["sex"] == own["overall"]["sex"]
    # That of a hospital's own folder stays there.
    hospital = tmp_path / "hospital"
    shutil.copytree(tiny_cohort, hospital)
    (hospital / "cohort.json").rename(hospital / "ingest.json")
    run = make_run()
    assert "characteristics" not in evaluate_run(run, hospital)["cohort"]
    assert "Table 1" not in (run / "report.html").read_text()


def test_a_damaged_table_1_is_one_line(
    make_run: MakeRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_cohort, damaged)
    record = json.loads((damaged / "cohort.json").read_text())
    del record["characteristics"]["overall"]["age"]
    (damaged / "cohort.json").write_text(json.dumps(record))
    with pytest.raises(CohortError, match=r"characteristics .* prepare the cohort again"):
        evaluate_run(make_run(), damaged)


def test_baselines_know_the_spread_of_their_own_site(evaluated_run: Path) -> None:
    result = evaluation_of(evaluated_run)
    for model in ("last_value", "ewm"):
        coverage = result["pooled"]["models"][model]["mean"]["coverage_80"]
        # Random walks: errors of other patients of the site, about 80 % of which are inside.
        assert 0.65 < coverage < 0.92, model


def test_the_result_holds_no_value_and_no_name_of_a_patient(
    evaluated_run: Path, tiny_cohort: Path
) -> None:
    result = evaluation_of(evaluated_run)
    values = list(scalars(result))
    assert all(value is None or isinstance(value, bool | int | float | str) for value in values)
    assert all(math.isfinite(value) for value in values if isinstance(value, float))
    patients = {
        str(patient)
        for path in (tiny_cohort / "sites").glob("*.parquet")
        for patient in read_site_table(path).frame["stay_id"]
    }
    assert not patients & {value for value in values if isinstance(value, str)}


@pytest.mark.usefixtures("figures_undrawn")
def test_examples_are_shown_for_open_sources_or_on_request(
    make_run: MakeRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    def figures(run: Path) -> int:
        return (run / "report.html").read_text().count('id="example-') // 2

    run = make_run()
    evaluate_run(run, tiny_cohort)
    assert figures(run) == len(VITAL_NAMES) * len(EXAMPLE_QUANTILES)
    evaluate_run(run, tiny_cohort, examples=False)
    assert figures(run) == 0
    assert "values of single patients" in (run / "report.html").read_text()
    hospital = as_source(tiny_cohort, tmp_path / "hospital", "mimic3")
    evaluate_run(run, hospital)
    assert figures(run) == 0
    evaluate_run(run, hospital, examples=True)
    assert figures(run) == len(VITAL_NAMES) * len(EXAMPLE_QUANTILES)


@pytest.mark.usefixtures("figures_undrawn")
def test_one_site_table_can_be_evaluated(make_run: MakeRun, tiny_cohort: Path) -> None:
    result = evaluate_run(make_run(), tiny_cohort / "sites" / "micu.parquet", "train")
    assert set(result["sites"]) == {"micu"}
    assert result["split"] == "train"
    assert result["pooled"]["models"]["adapter"]["mean"]["windows"] == len(
        windows_of(tiny_cohort, split="train")
    )


@pytest.mark.usefixtures("figures_undrawn")
def test_a_site_without_a_window_is_named_and_left_out(
    make_run: MakeRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    folder = as_source(tiny_cohort, tmp_path / "cohort", "synthetic")
    table = read_site_table(folder / "sites" / "ccu.parquet")
    rows = table.frame["split"] != "test"
    write_site_table(
        replace(table, frame=table.frame[rows].reset_index(drop=True)),
        folder / "sites" / "ccu.parquet",
    )
    run = make_run()
    result = evaluate_run(run, folder)
    assert set(result["sites"]) == {"micu", "sicu"}
    assert result["data"]["ccu"]["windows"] == 0
    assert "Without a window in this split: ccu" in (run / "report.html").read_text()
    with pytest.raises(CohortError, match="has no window in the split test"):
        evaluate_run(run, folder / "sites" / "ccu.parquet")


def test_a_folder_of_peft_s_own_needs_the_backbone_s_name(
    tiny_bolt: Path, tiny_cohort: Path, trained_adapter: Adapter, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    save_peft_folder(trained_adapter, ours)
    wrapped = PeftModel.from_pretrained(load_backbone(str(tiny_bolt)).model, str(ours))
    wrapped.save_pretrained(str(theirs))
    with pytest.raises(UsageError, match="--backbone"):
        load_adapter(theirs)
    windows = {"windows.context": "24", "windows.horizon": "4"}
    adapters = [
        load_adapter(ours, windows=windows),
        load_adapter(theirs, backbone=str(tiny_bolt), windows=windows),
    ]
    results = [evaluate_adapter(loaded, tiny_cohort).result for loaded in adapters]
    assert results[0]["pooled"] == results[1]["pooled"]
    assert adapters[0].run is None


def test_other_weights_than_the_adapter_s_are_refused(
    tiny_bolt: Path, trained_adapter: Adapter, tmp_path: Path
) -> None:
    model = ChronosBoltModelForForecasting.from_pretrained(tiny_bolt)
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    model.save_pretrained(tmp_path / "other")
    save_peft_folder(trained_adapter, tmp_path / "peft")
    with pytest.raises(AdapterError, match="was trained on"):
        load_adapter(tmp_path / "peft", backbone=str(tmp_path / "other"))


def test_an_adapter_that_is_not_finite_is_refused_by_name(
    tiny_bolt: Path, trained_adapter: Adapter, tmp_path: Path
) -> None:
    name = next(iter(trained_adapter.tensors))
    broken = {**trained_adapter.tensors, name: trained_adapter.tensors[name] * np.float32("nan")}
    save_peft_folder(replace(trained_adapter, tensors=broken), tmp_path / "peft")
    with pytest.raises(AdapterError, match=f"peft holds NaN or infinity in {re.escape(name)}; "):
        load_adapter(tmp_path / "peft", backbone=str(tiny_bolt))


def test_bad_input_is_reported_in_one_line(
    make_run: MakeRun, tiny_cohort: Path, tmp_path: Path
) -> None:
    run = make_run()
    with pytest.raises(UsageError, match="there is no folder or file"):
        load_adapter(tmp_path / "absent")
    with pytest.raises(UsageError, match="neither a run folder"):
        load_adapter(tmp_path)
    with pytest.raises(UsageError, match=r"windows\.\*, step-minutes and task only, got rounds"):
        load_adapter(run, windows={"rounds": "3"})
    with pytest.raises(UsageError, match="did you mean 'test'"):
        evaluate_run(run, tiny_cohort, "tset")
    with pytest.raises(CohortError, match="absent holds no cohort"):
        evaluate_run(run, tmp_path / "absent")
    (run / "adapter").rename(run / "gone")
    with pytest.raises(UsageError, match="has released no adapter"):
        load_adapter(run)


def test_another_time_step_than_the_run_s_is_refused(
    tiny_cohort: Path, run_config: dict[str, Any]
) -> None:
    config = RunConfig.parse(run_config["settings"])
    with pytest.raises(UsageError, match="prepare it with --step-minutes 30"):
        read_evaluation_sites(tiny_cohort, "test", config.windows, step_minutes=30)


def test_a_folder_that_cannot_be_written_is_reported(make_run: MakeRun, tiny_cohort: Path) -> None:
    run = make_run()
    (run / "evaluation.json").mkdir()
    with pytest.raises(FederationError, match="cannot be written"):
        evaluate_run(run, tiny_cohort)


def test_tables_fit_into_100_columns(evaluated_run: Path) -> None:
    tables = evaluation_tables(evaluation_of(evaluated_run))
    console = Console(width=100, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    lines = console.export_text().splitlines()
    text = "\n".join(lines)
    assert "…" not in text
    # A row that does not fit would be broken into two.
    for vital in VITALS:
        label = f"{vital.label}, {vital.unit}"
        assert sum(line.lstrip().startswith(label) for line in lines) == 1
        assert sum(line.lstrip().startswith(f"{vital.label} ") for line in lines) == 1
    assert text.index("against") < text.index("WQL per vital") < text.index("Per site")
