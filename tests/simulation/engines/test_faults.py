"""Sites that misbehave: the run ends as without them in that round, and says who and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord
from flwr.clientapp import ClientApp

from client.app.client_app import app as client_app
from client.app.client_app import conceal_failure
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import bytes_of, from_record, record_of, to_record
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.errors import FederationError
from server.rounds.checkpoint import load_checkpoint
from server.server_app import app as server_app
from simulation.engines.inprocess import run_in_process
from simulation.run import federate
from tests.samples.federation import (
    VANISHED,
    VanishedError,
    elsewhere,
    ordered,
    released,
    rounds_of,
    run_changed,
    tiny_run,
    with_settings,
)

pytestmark = pytest.mark.usefixtures("figures_undrawn")

Spoil = Callable[[Message], None]
"""Spoils a reply in place, or raises as a site would."""


@pytest.fixture
def config(tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path) -> RunConfig:
    adapted_backbone.cache_clear()
    # One step a round: what is spoilt is the reply, however it was trained.
    return tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run", **{"train.steps": 1})


def site_raises(reply: Message) -> None:
    raise RuntimeError("patient John Doe, 1970-01-01")


def site_vanishes(reply: Message) -> None:
    raise VanishedError(VANISHED)


def no_adapter(reply: Message) -> None:
    del reply.content["adapter"]


def noise(reply: Message) -> None:
    reply.content["adapter"] = record_of(np.random.default_rng(0).bytes(10 * 2**20))


def forged_header(reply: Message) -> None:
    """A header that asks for 1e11 numbers."""
    data = bytes_of(reply.content.array_records["adapter"])
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].replace(b'"shape":[', b'"shape":[100000000000,', 1)
    forged = len(header).to_bytes(8, "little") + header + data[8 + length :]
    reply.content["adapter"] = record_of(forged)


def two_arrays(reply: Message) -> None:
    record = reply.content.array_records["adapter"]
    more = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=b"0000")
    reply.content["adapter"] = ArrayRecord({"adapter": record["adapter"], "vitals": more})


def change_adapter(change: Callable[[Adapter], Adapter]) -> Spoil:
    def spoil(reply: Message) -> None:
        adapter = from_record(reply.content.array_records["adapter"])
        reply.content["adapter"] = to_record(change(adapter))

    return spoil


def mapped(adapter: Adapter, change: Callable[[str, Any], Any]) -> Adapter:
    tensors = {name: change(name, matrix) for name, matrix in adapter.tensors.items()}
    return replace(adapter, tensors=tensors)


def nan(adapter: Adapter) -> Adapter:
    return mapped(adapter, lambda name, matrix: np.full_like(matrix, np.nan))


def huge(adapter: Adapter) -> Adapter:
    return mapped(adapter, lambda name, matrix: matrix * np.float32(1e6))


def other_base(adapter: Adapter) -> Adapter:
    return replace(adapter, backbone_digest="0" * 64)


def wrong_names(adapter: Adapter) -> Adapter:
    renamed = {name.replace("encoder", "ENCODER"): m for name, m in adapter.tensors.items()}
    return replace(adapter, tensors=renamed)


def wrong_shape(adapter: Adapter) -> Adapter:
    return mapped(adapter, lambda name, m: np.repeat(m, 2, axis=1) if "_A." in name else m)


def wrong_rank(adapter: Adapter) -> Adapter:
    halved = {
        name: (m[:1] if "_A." in name else m[:, :1]).copy() for name, m in adapter.tensors.items()
    }
    return replace(adapter, tensors=halved, rank=1)


def too_many_patients(reply: Message) -> None:
    report = {**reply.content.metric_records["report"], "patients": 10**9}
    reply.content["report"] = MetricRecord(report)


def stale_round(reply: Message) -> None:
    order = reply.content.config_records["round"]
    order["round"] = int(str(order["round"])) - 1


def other_run(reply: Message) -> None:
    reply.content.config_records["round"]["run"] = "0" * 16


FAULTS: Mapping[str, tuple[Spoil, str]] = {
    "site raises": (site_raises, "it failed"),
    "site vanishes": (site_vanishes, "no reply within"),
    "no adapter": (no_adapter, "lacks the record 'adapter'"),
    "nan": (change_adapter(nan), "not finite"),
    "wrong shape": (change_adapter(wrong_shape), "shape"),
    "wrong rank": (change_adapter(wrong_rank), "sent rank 1"),
    "wrong names": (change_adapter(wrong_names), "ENCODER"),
    "huge norm": (change_adapter(huge), "times the round's median"),
    "forged header": (forged_header, "not three counts"),
    "other base": (change_adapter(other_base), "backbone"),
    "stale round": (stale_round, "another round or run"),
    "other run": (other_run, "another round or run"),
    "two arrays": (two_arrays, "expected one array"),
    "10 MB of noise": (noise, "are accepted"),
    "too many patients": (too_many_patients, "1000000000 patients"),
}


def run_spoilt(config: RunConfig, faults: Mapping[tuple[str, int], Spoil]) -> None:
    """Run with replies spoilt, by site and round."""

    def change(message: Message, reply: Message) -> None:
        spoil = faults.get(ordered(message))
        if spoil is not None:
            spoil(reply)

    run_changed(config, change)


def ended_without(config: RunConfig, absent: frozenset[tuple[str, int]]) -> str:
    """The digest of the last adapter of a run that does not ask these sites in these rounds."""
    if absent not in ENDS:
        other = elsewhere(config, f"without-{len(ENDS)}")

        def sample(sites: Any, fraction: float, least: int, seed: int, number: int) -> list[str]:
            return [site for site in sites if (site, number) not in absent]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("server.rounds.federation.sample_sites", sample)
            run_changed(other, lambda order, reply: None)
        ENDS[absent] = ended(other)
    return ENDS[absent]


NAMES = list(FAULTS)
PAIRS = list(zip(NAMES, [*NAMES[4:], *NAMES[:4]], strict=True))
ENDS: dict[frozenset[tuple[str, int]], str] = {}


def ended(config: RunConfig) -> str:
    state = load_checkpoint(Path(config.out), config)
    assert state is not None
    assert state.round == config.rounds
    return state.adapter.digest()


@pytest.mark.parametrize(
    ("fault", "number"),
    [
        *((fault, 2) for fault in FAULTS),
        # No earlier adapter to repeat, no earlier round to name; and none after it.
        ("site vanishes", 1),
        ("nan", 1),
        ("stale round", 1),
        ("site raises", 3),
        ("huge norm", 3),
    ],
)
def test_the_run_ends_as_without_the_site_in_that_round(
    config: RunConfig, fault: str, number: int
) -> None:
    spoil, reason = FAULTS[fault]
    config = with_settings(config, {"federation.round-timeout-s": 0.3})
    run_spoilt(config, {("micu", number): spoil})
    assert ended(config) == ended_without(config, frozenset({("micu", number)}))
    for line in rounds_of(config)[:3]:
        refused = {site: e["refused"] for site, e in line["sites"].items() if "refused" in e}
        if line["round"] == number:
            assert list(refused) == ["micu"]
            assert reason in refused["micu"]
            assert "weight" not in line["sites"]["micu"]
        else:
            assert not refused
    assert released(config).is_finite()


@pytest.mark.parametrize("pair", PAIRS)
def test_two_faults_at_once(config: RunConfig, pair: tuple[str, str]) -> None:
    config = with_settings(config, {"federation.min-sites": 1, "federation.round-timeout-s": 0.3})
    first, second = (FAULTS[fault] for fault in pair)
    # The largest update cannot be told where a single other one is left: that fault comes last.
    faults = {("ccu", 2): first[0], ("sicu", 3): second[0]}
    if "huge norm" not in pair:
        faults |= {("micu", 2): second[0]}
    run_spoilt(config, faults)
    assert ended(config) == ended_without(config, frozenset(faults))
    second_round = rounds_of(config)[1]["sites"]
    assert first[1] in second_round["ccu"]["refused"]
    assert "weight" in second_round["sicu"]


def test_the_sites_exception_stays_there(config: RunConfig) -> None:
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


def test_a_replay_of_an_older_rounds_adapter_is_refused(config: RunConfig) -> None:
    kept: list[bytes] = []

    def replay(message: Message, reply: Message) -> None:
        site, number = ordered(message)
        if site == "micu" and number == 1:
            kept.append(bytes_of(reply.content.array_records["adapter"]))
        if site == "micu" and number == 3:
            reply.content["adapter"] = record_of(kept[0])

    run_changed(config, replay)
    assert "of an earlier round again" in rounds_of(config)[2]["sites"]["micu"]["refused"]
    assert "refused" not in rounds_of(config)[1]["sites"]["micu"]


def test_a_refused_adapter_leaves_the_sites_validation_standing(config: RunConfig) -> None:
    run_spoilt(config, {("micu", 2): change_adapter(nan)})
    second = rounds_of(config)[1]["sites"]["micu"]
    assert "not finite" in second["refused"]
    assert second["validation"]["wql"] > 0
    assert "weight" not in second


def test_below_the_quorum_the_run_fails_keeps_its_checkpoint_and_resumes(
    config: RunConfig,
) -> None:
    strict = with_settings(config, {"federation.min-sites": 3})
    with pytest.raises(FederationError, match=r"round 2 .*min-sites = 3 \(micu: .* resume"):
        run_spoilt(strict, {("micu", 2): no_adapter})
    assert [entry["round"] for entry in rounds_of(strict)] == [1, 2]
    assert rounds_of(strict)[1]["failed"] == "below the quorum"
    state = load_checkpoint(Path(strict.out), strict)
    assert state is not None
    assert state.adapter.digest() == rounds_of(strict)[0]["adapter_digest"]
    assert not (Path(strict.out) / "adapter").exists()
    federate(strict.replace(resume=True))
    whole = elsewhere(strict, "whole")
    federate(whole)
    assert released(strict) == released(whole)
    assert [entry["round"] for entry in rounds_of(strict)] == [1, 2, 2, 3, 4]
