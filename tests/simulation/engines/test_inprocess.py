"""The federation end to end through the in-process engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, MetricRecord
from safetensors.numpy import load_file

from client.app.client_app import app as client_app
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.errors import (
    BackboneError,
    CohortError,
    FederationError,
    SiteTableError,
    UsageError,
)
from server.rounds.checkpoint import load_checkpoint
from server.server_app import app as server_app
from simulation.engines.inprocess import run_in_process
from simulation.run import federate
from tests.samples.federation import released, rounds_of, run_changed, tiny_run

pytestmark = pytest.mark.usefixtures("figures_undrawn")


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    return tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")


def test_a_run_ends_with_a_folder_that_tells_it_all(config: RunConfig) -> None:
    federate(config)
    folder = Path(config.out)
    record = json.loads((folder / "config.json").read_text())
    assert record["settings"] == config.flat()
    assert list(record["sites"]) == ["ccu", "micu", "sicu"]
    rounds = rounds_of(config)
    assert [entry["round"] for entry in rounds] == [1, 2, 3, 4]
    assert [entry["trained"] for entry in rounds] == [True, True, True, False]
    for entry in rounds[:3]:
        weights = {site: values["weight"] for site, values in entry["sites"].items()}
        assert sum(weights.values()) == pytest.approx(1.0)
        assert weights["micu"] > weights["ccu"]
        assert all(values["steps"] == 3 for values in entry["sites"].values())
    state = load_checkpoint(folder, config)
    assert state is not None
    assert state.adapter.digest() == rounds[2]["adapter_digest"]
    assert released(config).num_parameters == record["backbone"]["adapter_parameters"]
    frozen = load_file(Path(config.backbone) / "model.safetensors")
    assert record["backbone"]["parameters"] == sum(tensor.size for tensor in frozen.values())
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        # As reported in rounds 1 to 4, each of the adapter of the round before.
        ([0.5, 0.3, 0.4, 0.35], 1),
        ([0.5, 0.4, 0.3, 0.2], 3),
        ([0.2, 0.3, 0.4, 0.5], 0),
    ],
)
def test_the_best_round_by_validation_is_released(
    config: RunConfig, scores: list[float], best: int
) -> None:
    def validate(message: Message, reply: Message) -> None:
        number = int(str(message.content.config_records["round"]["round"]))
        report = {**reply.content.metric_records["report"], "validation.wql": scores[number - 1]}
        reply.content["report"] = MetricRecord(report)

    run_changed(config, validate)
    digests = {entry["round"]: entry.get("adapter_digest") for entry in rounds_of(config)}
    if best:
        assert released(config).digest() == digests[best]
    else:
        b_matrices = [m for name, m in released(config).tensors.items() if "lora_B" in name]
        assert not np.any(np.concatenate([m.ravel() for m in b_matrices]))


def test_the_same_seed_gives_the_same_adapter(config: RunConfig, tmp_path: Path) -> None:
    again = config.replace(out=str(tmp_path / "again"))
    other = config.replace(out=str(tmp_path / "other"), seed=1)
    for one in (config, again, other):
        federate(one)
    assert released(config) == released(again)
    assert released(config) != released(other)


def test_how_many_nodes_play_the_sites_does_not_matter(config: RunConfig, tmp_path: Path) -> None:
    federate(config)
    fewer = config.replace(out=str(tmp_path / "fewer"))
    run_in_process(server_app, client_app, fewer.flat(), nodes=2)
    assert released(config) == released(fewer)


def test_float16_halves_the_bytes_and_hardly_moves_the_adapter(
    config: RunConfig, tmp_path: Path
) -> None:
    federate(config)
    half = config.replace(out=str(tmp_path / "half"), wire=config.wire.replace(dtype="float16"))
    federate(half)
    sizes = [rounds_of(one)[0]["sites"]["micu"]["bytes_received"] for one in (config, half)]
    assert sizes[1] < 0.75 * sizes[0]
    for name, matrix in released(half).tensors.items():
        np.testing.assert_allclose(matrix, released(config).tensors[name], atol=5e-3)


def test_equal_weights(config: RunConfig) -> None:
    federate(config.replace(federation=config.federation.replace(weights="equal")))
    weights = [site["weight"] for site in rounds_of(config)[0]["sites"].values()]
    assert weights == pytest.approx([1 / 3] * 3)


def test_a_run_without_gain_stops_early(config: RunConfig) -> None:
    patient = config.replace(
        rounds=8,
        train=config.train.replace(learning_rate=1e-12),
        federation=config.federation.replace(patience=2),
    )
    federate(patient)
    assert len(rounds_of(patient)) < 8


def test_windows_that_the_backbone_cannot_forecast_are_refused_before_any_site_is_asked(
    config: RunConfig,
) -> None:
    with pytest.raises(BackboneError, match=r"at most 12 steps, got windows\.horizon = 13"):
        federate(config.replace(windows=config.windows.replace(horizon=13)))
    assert not Path(config.out).exists()


def test_too_few_sites_are_told_without_waiting(config: RunConfig) -> None:
    patient = config.federation.replace(min_sites=4, wait_s=1e6)
    with pytest.raises(UsageError, match=r"has 3 site\(s\), the run needs"):
        federate(config.replace(federation=patient))
    # Also where the sites themselves have to say it: every node has answered.
    with pytest.raises(FederationError, match="3 usable sites joined, the run needs 4"):
        run_in_process(server_app, client_app, config.replace(federation=patient).flat(), nodes=3)
    federate(config)  # the folder was given up again


def test_a_damaged_table_is_told_before_the_first_round(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    (folder / "sites" / "micu.parquet").write_bytes(b"PAR1")
    with pytest.raises(SiteTableError, match=r"micu\.parquet"):
        federate(config.replace(data=str(folder)))
    assert not Path(config.out).exists()


def test_a_cohorts_folder_takes_no_run(config: RunConfig, tiny_cohort: Path) -> None:
    with pytest.raises(FederationError, match="already holds a cohort"):
        federate(config.replace(out=str(tiny_cohort)))


def test_a_site_without_a_usable_window_says_so(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    from common.data.site_table import SiteTable, make_site_table, read_site_table, write_site_table

    folder = tmp_path / "cohort"
    for path in sorted((tiny_cohort / "sites").iterdir()):
        table: SiteTable = read_site_table(path)
        if path.stem == "ccu":
            short = table.frame[table.frame["step"] < 5].drop(columns="split")
            table = make_site_table(short, table.info)
        write_site_table(table, folder / "sites" / path.name)
    (folder / "cohort.json").write_text(
        json.dumps({"schema_version": 1, "sites": {"ccu": {}, "micu": {}, "sicu": {}}})
    )
    sparse = config.replace(data=str(folder))
    federate(sparse)
    record = json.loads((Path(config.out) / "config.json").read_text())
    assert "no usable window" in record["sites_refused"]["ccu"]
    assert list(rounds_of(sparse)[0]["sites"]) == ["micu", "sicu"]


def test_a_run_folder_is_not_overwritten(config: RunConfig) -> None:
    federate(config)
    before = released(config)
    with pytest.raises(FederationError, match="already holds a run"):
        federate(config)
    assert released(config) == before


def test_a_folder_that_cannot_be_written_is_named(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FederationError, match=r"file.* cannot be written"):
        federate(config.replace(out=str(tmp_path / "file" / "run")))


def test_a_cohort_that_is_absent_is_named(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="holds no cohort"):
        federate(config.replace(data=str(tmp_path)))
