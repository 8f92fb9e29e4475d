"""The federation end to end through the in-process engine, with sites that misbehave."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp
from safetensors.numpy import load_file

from client.app import app as client_app
from client.app import conceal_failure
from common.adapter import Adapter
from common.backbones.lora import adapted_backbone
from common.config import FederationConfig, LoraConfig, RunConfig, TrainConfig, WindowConfig
from common.errors import (
    BackboneError,
    CohortError,
    FederationError,
    SiteTableError,
    UsageError,
)
from common.peft_adapter import load_peft_folder
from common.wire import from_record, to_record
from server.app import app as server_app
from server.run_folder import read_rounds
from simulation.engines.inprocess import run_in_process
from simulation.federate import federate

Spoil = Callable[[Message], None]


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    return RunConfig(
        backbone=str(tiny_bolt),
        data=str(tiny_cohort),
        out=str(tmp_path / "run"),
        rounds=3,
        lora=LoraConfig(rank=2),
        windows=WindowConfig(context=24),
        train=TrainConfig(steps=3, batch=16, learning_rate=1e-2),
        federation=FederationConfig(min_sites=2, wait_s=5.0, round_timeout_s=60.0),
    )


def rounds_of(config: RunConfig) -> list[dict[str, Any]]:
    return read_rounds(Path(config.out))


def released(config: RunConfig) -> Adapter:
    return load_peft_folder(Path(config.out) / "adapter")


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
    latest = load_peft_folder(folder / "checkpoint" / "latest")
    assert latest.digest() == rounds[2]["adapter_digest"]
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
        b_matrices = [m for name, m in _items(released(config)) if "lora_B" in name]
        assert not np.any(np.concatenate([m.ravel() for m in b_matrices]))


def test_the_same_seed_gives_the_same_adapter(config: RunConfig, tmp_path: Path) -> None:
    again = replace(config, out=str(tmp_path / "again"))
    other = replace(config, out=str(tmp_path / "other"), seed=1)
    for one in (config, again, other):
        federate(one)
    assert released(config) == released(again)
    assert released(config) != released(other)


def test_how_many_nodes_play_the_sites_does_not_matter(config: RunConfig, tmp_path: Path) -> None:
    federate(config)
    fewer = replace(config, out=str(tmp_path / "fewer"))
    run_in_process(server_app, client_app, fewer.flat(), nodes=2)
    assert released(config) == released(fewer)


def test_float16_halves_the_bytes_and_hardly_moves_the_adapter(
    config: RunConfig, tmp_path: Path
) -> None:
    federate(config)
    half = replace(config, out=str(tmp_path / "half"), wire=replace(config.wire, dtype="float16"))
    federate(half)
    sizes = [rounds_of(one)[0]["sites"]["micu"]["bytes_received"] for one in (config, half)]
    assert sizes[1] < 0.75 * sizes[0]
    for name, matrix in released(half).tensors.items():
        np.testing.assert_allclose(matrix, released(config).tensors[name], atol=5e-3)


def test_equal_weights(config: RunConfig) -> None:
    federate(replace(config, federation=replace(config.federation, weights="equal")))
    weights = [site["weight"] for site in rounds_of(config)[0]["sites"].values()]
    assert weights == pytest.approx([1 / 3] * 3)


def test_a_run_without_gain_stops_early(config: RunConfig) -> None:
    patient = replace(
        config,
        rounds=8,
        train=replace(config.train, learning_rate=1e-12),
        federation=replace(config.federation, patience=2),
    )
    federate(patient)
    assert len(rounds_of(patient)) < 8


def run_changed(config: RunConfig, change: Callable[[Message, Message], None]) -> None:
    """Run with something done to each reply to an order: `change(order, reply)`."""
    changed = ClientApp()

    def handle(message: Message, context: Context) -> Message:
        reply = client_app(message, context)
        if "round" in message.content.config_records:
            change(message, reply)
        return reply

    changed.train()(handle)
    changed.evaluate()(handle)
    changed.query()(handle)
    run_in_process(server_app, changed, config.flat(), nodes=3)


def run_with(config: RunConfig, spoil: Spoil, site: str = "micu", number: int = 2) -> None:
    """Run with one site whose reply is spoilt in one round."""

    def change(message: Message, reply: Message) -> None:
        order = message.content.config_records["round"]
        if (order["site"], order["round"]) == (site, number):
            spoil(reply)

    run_changed(config, change)


def raise_error(reply: Message) -> None:
    raise RuntimeError("patient John Doe, 1970-01-01")


def no_adapter(reply: Message) -> None:
    del reply.content["adapter"]


def garbage(reply: Message) -> None:
    data = b"\xff" * 1000
    array = Array(dtype="uint8", shape=(1000,), stype="safetensors", data=data)
    reply.content["adapter"] = ArrayRecord({"adapter": array})


def change_adapter(change: Callable[[Adapter], Adapter]) -> Spoil:
    def spoil(reply: Message) -> None:
        adapter = from_record(reply.content.array_records["adapter"])
        reply.content["adapter"] = to_record(change(adapter))

    return spoil


def nan(adapter: Adapter) -> Adapter:
    tensors = {name: np.full_like(matrix, np.nan) for name, matrix in adapter.tensors.items()}
    return replace(adapter, tensors=tensors)


def other_base(adapter: Adapter) -> Adapter:
    return replace(adapter, backbone_digest="0" * 64)


def wrong_names(adapter: Adapter) -> Adapter:
    renamed = {name.replace("encoder", "ENCODER"): m for name, m in adapter.tensors.items()}
    return replace(adapter, tensors=renamed)


def wrong_shape(adapter: Adapter) -> Adapter:
    wider = {name: np.repeat(m, 2, axis=1) if "_A." in name else m for name, m in _items(adapter)}
    return replace(adapter, tensors=wider)


def _items(adapter: Adapter) -> list[tuple[str, Any]]:
    return list(adapter.tensors.items())


def too_many_patients(reply: Message) -> None:
    reply.content["report"] = MetricRecord(
        {**reply.content.metric_records["report"], "patients": 10**9}
    )


def stale_round(reply: Message) -> None:
    reply.content.config_records["round"]["round"] = 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(raise_error, "failed", id="raises"),
        pytest.param(no_adapter, "lacks the record 'adapter'", id="no adapter"),
        pytest.param(garbage, "header", id="garbage"),
        pytest.param(change_adapter(nan), "not finite", id="nan"),
        pytest.param(change_adapter(other_base), "backbone", id="other base"),
        pytest.param(change_adapter(wrong_names), "ENCODER", id="wrong names"),
        pytest.param(change_adapter(wrong_shape), "shape", id="wrong shape"),
        pytest.param(too_many_patients, "1000000000 patients", id="too many patients"),
        pytest.param(stale_round, "another round", id="stale round"),
    ],
)
def test_a_bad_reply_is_named_and_the_round_goes_on(
    config: RunConfig, spoil: Spoil, reason: str
) -> None:
    run_with(config, spoil)
    first, second, third, _ = rounds_of(config)
    assert reason in second["sites"]["micu"]["refused"]
    assert "weight" in second["sites"]["ccu"]
    assert "refused" not in first["sites"]["micu"]
    assert "refused" not in third["sites"]["micu"]
    assert released(config).is_finite()


def test_below_the_quorum_the_run_fails_and_keeps_its_checkpoint(config: RunConfig) -> None:
    strict = replace(config, federation=replace(config.federation, min_sites=3))
    with pytest.raises(FederationError, match=r"round 2 .*min-sites = 3 \(micu: "):
        run_with(strict, no_adapter)
    assert [entry["round"] for entry in rounds_of(strict)] == [1, 2]
    assert rounds_of(strict)[1]["failed"] == "below the quorum"
    latest = load_peft_folder(Path(strict.out) / "checkpoint" / "latest")
    assert latest.digest() == rounds_of(strict)[0]["adapter_digest"]
    assert not (Path(strict.out) / "adapter").exists()


def test_the_text_of_a_sites_exception_stays_there(config: RunConfig) -> None:
    failing = ClientApp(mods=[conceal_failure])

    def handle(message: Message, context: Context) -> Message:
        raise RuntimeError("patient John Doe, 1970-01-01")

    failing.train()(handle)
    failing.query()(lambda message, context: client_app(message, context))
    with pytest.raises(FederationError, match="client failed: RuntimeError"):
        run_in_process(server_app, failing, config.flat(), nodes=3)
    text = (Path(config.out) / "rounds.jsonl").read_text()
    assert "client failed: RuntimeError" in text
    assert "John Doe" not in text


def test_windows_that_the_backbone_cannot_forecast_are_refused_before_any_site_is_asked(
    config: RunConfig,
) -> None:
    with pytest.raises(BackboneError, match=r"at most 12 steps, got windows\.horizon = 13"):
        federate(replace(config, windows=replace(config.windows, horizon=13)))
    assert not Path(config.out).exists()


def test_too_few_sites_are_told_without_waiting(config: RunConfig) -> None:
    patient = replace(config.federation, min_sites=4, wait_s=1e6)
    with pytest.raises(UsageError, match=r"has 3 site\(s\), the run needs"):
        federate(replace(config, federation=patient))
    # Also where the sites themselves have to say it: every node has answered.
    with pytest.raises(FederationError, match="3 usable sites joined, the run needs 4"):
        run_in_process(server_app, client_app, replace(config, federation=patient).flat(), nodes=3)
    federate(config)  # the folder was given up again


def test_a_damaged_table_is_told_before_the_first_round(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    (folder / "sites" / "micu.parquet").write_bytes(b"PAR1")
    with pytest.raises(SiteTableError, match=r"micu\.parquet"):
        federate(replace(config, data=str(folder)))
    assert not Path(config.out).exists()


def test_a_cohorts_folder_takes_no_run(config: RunConfig, tiny_cohort: Path) -> None:
    with pytest.raises(FederationError, match="already holds a cohort"):
        federate(replace(config, out=str(tiny_cohort)))


def test_a_refused_adapter_leaves_the_sites_validation_standing(config: RunConfig) -> None:
    run_with(config, change_adapter(nan))
    second = rounds_of(config)[1]["sites"]["micu"]
    assert "not finite" in second["refused"]
    assert second["validation"]["wql"] > 0
    assert "weight" not in second


def test_a_site_without_a_usable_window_says_so(
    config: RunConfig, tiny_cohort: Path, tmp_path: Path
) -> None:
    from common.vitals import SiteTable, make_site_table, read_site_table, write_site_table

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
    sparse = replace(config, data=str(folder))
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
        federate(replace(config, out=str(tmp_path / "file" / "run")))


def test_a_cohort_that_is_absent_is_named(config: RunConfig, tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="holds no cohort"):
        federate(replace(config, data=str(tmp_path)))
