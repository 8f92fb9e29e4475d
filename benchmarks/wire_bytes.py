"""Bytes that leave a site, by message: as sent by its gate and recorded in its audit log.

    python benchmarks/wire_bytes.py [--backbone NAME] [--ranks 2 8 16]

Makes a network of the size of amazon/chronos-bolt-small with random weights, since the bytes depend
only on names and shapes (--backbone uses local weights). A site's replies are made as in
`client.app.client_app` and passed through the real gate with the policy of deploy/site and the
entries that a site has to add. Prints the tables of deploy/governance/data-flow.md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch
from flwr.app import ConfigRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from client.app.local_round import VALIDATION_METRICS, RoundReport
from client.config.site_facts import SiteFacts
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import read_entries
from client.egress.gate import Gate
from client.egress.server_request import parse_request
from client.policy.policy import load_policy
from client.policy.run_settings import RunSettings
from client.policy.submitted_run import SubmittedRun
from client.privacy.run_plan import plan_of
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import WireDtype, encode, record_of
from common.backbones.lora import adapted_backbone
from common.config.run_config import LoraConfig, PrivacyConfig, RunConfig, WireConfig
from common.data.vitals import VITAL_NAMES
from simulation.attacks.adapter_capacity import message_capacity_bits

SMALL = "amazon/chronos-bolt-small"
BUNDLE = "ab" * 32
SITE = "hospital-1"
RUN, NODE = 2**64 - 1, 2**64 - 1
"""Flower's ids of a run and of a node, drawn below 2^64: most are as long as this."""
PATIENTS = 240
SOURCE, RULE = "own data", "sepsis by ICD-10 A40, A41, R65.2; adults; 24 h or more"
POLICY = Path(__file__).resolve().parents[1] / "deploy" / "site" / "policy.toml"
DTYPES: tuple[WireDtype, ...] = ("float32", "float16", "int8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The bytes that leave a site.")
    parser.add_argument("--backbone", default="")
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 8, 16])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        name = options.backbone or str(make_small(folder / "chronos-bolt-small"))
        print(
            "adapter and message of a training round, bytes (A and B with privacy off, B with it)"
        )
        for rank in options.ranks:
            adapter = make_adapter(name, rank, not options.backbone)
            door = Door(folder / f"rank-{rank}", adapter)
            print(f"rank {rank}, {adapter.num_parameters:,} numbers in {len(adapter.tensors)}:")
            for dtype in DTYPES:
                for what, line in (
                    ("A and B", door.train(open_report(), open_run(dtype))),
                    ("B alone", door.train(private_report(), private_run(dtype))),
                ):
                    room = message_capacity_bits(line["adapter"]["tensors"], door.max_norm) / 8
                    print(
                        f"  {what}, {dtype}: {line['adapter']['bytes']:,} and {line['bytes']:,}; "
                        f"its numbers could hide {room:,.0f}"
                    )
        print(f"requests of a round: {door.requests}; beside the adapter, bytes:")
        for what, (report, run) in REPORTS.items():
            line = door.train(report(), run())
            rest = line["bytes"] - line["adapter"]["bytes"]
            print(f"  {what}: {len(report())} numbers, {rest:,} with names and envelope")
        print(f"answer without an adapter: {door.evaluate(open_report())['bytes']:,}")
        print(f"what the site says when it joins: {door.join()['bytes']:,}")
        print(f"an error: {door.fail()['bytes']:,}")


def make_small(folder: Path) -> Path:
    """Write a network of the size of amazon/chronos-bolt-small, which is T5-efficient-small's."""
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_decoder_layers=6, num_heads=8,
        feed_forward_proj="relu", vocab_size=2, pad_token_id=0,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    config.chronos_config = {
        "context_length": 2048,
        "prediction_length": 64,
        "input_patch_size": 16,
        "input_patch_stride": 16,
        "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        "use_reg_token": True,
    }
    torch.manual_seed(0)
    ChronosBoltModelForForecasting(config).save_pretrained(folder)
    return folder


def make_adapter(name: str, rank: int, stands_in: bool) -> Adapter:
    """Return an adapter with drawn matrices; a stand-in is given the real model's name."""
    adapter = adapted_backbone(name, LoraConfig(rank=rank), torch.device("cpu")).fresh_adapter(0)
    return Adapter(
        adapter.tensors,
        rank=adapter.rank,
        alpha=adapter.alpha,
        target_modules=adapter.target_modules,
        backbone=SMALL if stands_in else adapter.backbone,
        backbone_digest=adapter.backbone_digest,
        dropout=adapter.dropout,
    )


def open_report() -> dict[str, float | int]:
    """Return the whole report of a site with privacy off."""
    scores = {f"{metric}.{vital}": 1 / 3 for vital in VITAL_NAMES for metric in VALIDATION_METRICS}
    seconds = {"validation": 12.3, "training": 45.6}
    return RoundReport(240, 9876, 155, 1 / 3, {"wql": 1 / 3, **scores}, seconds).numbers()


def private_run(dtype: WireDtype = "float32") -> RunConfig:
    """Return the settings of a private run: ten steps per round with a tenth of the patients."""
    privacy = PrivacyConfig(noise_multiplier=1.2, sample_rate=0.1)
    return RunConfig(privacy=privacy, wire=WireConfig(dtype=dtype))


def open_run(dtype: WireDtype = "float32") -> RunConfig:
    """Return the settings of a run without privacy."""
    return RunConfig(wire=WireConfig(dtype=dtype))


def private_report() -> dict[str, float | int]:
    """Return the whole report of a site with privacy on and an empty `allow`."""
    plan = plan_of(private_run())
    guarantee = {f"privacy.{name}": value for name, value in plan.facts().items()}
    return {"steps": plan.round_steps.steps, **guarantee}


REPORTS = {
    "privacy on": (private_report, private_run),
    "privacy off": (open_report, open_run),
}
"""Report of a round and settings of its run, by kind."""


@dataclass
class Door:
    """A site's gate, through which replies are passed.

    Args:
        folder: folder of policy and audit log.
        adapter: the adapter of the rounds.
    """

    folder: Path
    adapter: Adapter
    requests: int = 0

    def __post_init__(self) -> None:
        self.folder.mkdir()
        digest = self.adapter.backbone_digest
        added = POLICY.read_text().replace(
            "texts = []", f'texts = ["{SOURCE}", "{RULE}", "{digest}"]'
        )
        added = added.replace("required = true", "required = false")
        added = added.replace("budget-epsilon = 10.0", "")
        now = datetime.now(UTC).replace(microsecond=0)
        until = (now + timedelta(days=1)).isoformat()
        approval = f'[[bundles]]\nsha256 = "{BUNDLE}"\nname = "fedvitals"\nstudy = "a benchmark"\n'
        approval += f'until = "{until}"\napproved-by = "a"\napproved-at = "{now.isoformat()}"\n'
        path = self.folder / "policy.toml"
        path.write_text(f"{added}\n{approval}")
        policy = load_policy(path)
        self.max_norm = policy.max_norm
        self._log = self.folder / "audit.jsonl"
        site = SiteFacts(SITE, PATIENTS, PATIENTS, step_minutes=60)
        self._gate = Gate(site, lambda: policy, AuditLog(self._log))

    def train(self, report: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
        """Return the audit log's line on a reply with an adapter."""
        return self._pass("train", config, {"report": MetricRecord(dict(report))})

    def evaluate(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return the audit log's line on a reply without an adapter."""
        return self._pass("evaluate", open_run(), {"report": MetricRecord(dict(report))})

    def join(self) -> dict[str, Any]:
        """Return the audit log's line on the reply to a join request."""
        said = {
            "patients": PATIENTS, "windows": 9876, "validation-windows": 1234, "usable": True,
            "rank": self.adapter.rank, "source": SOURCE, "rule": RULE, "step-minutes": 60,
            "backbone-digest": self.adapter.backbone_digest, "outside": "",
        }  # fmt: skip
        site = ConfigRecord(said)  # type: ignore[arg-type]
        return self._pass(
            "query",
            RunConfig(lora=LoraConfig(rank=self.adapter.rank)),
            {f"site.{SITE}": site, "node": ConfigRecord({"nodes": 0})},
        )

    def fail(self) -> dict[str, Any]:
        """Return the audit log's line on a refused reply."""
        return self._pass("query", open_run(), {"report": MetricRecord({"patients": 1})}, "refused")

    def _pass(
        self, kind: str, config: RunConfig, content: dict[str, Any], decision: str = "sent"
    ) -> dict[str, Any]:
        dtype = config.wire.dtype
        name = ConfigRecord({"site": SITE, "round": 1, "run": "ab" * 8})
        # The server sends float32, or float16 if the site sends less.
        down: WireDtype = "float32" if dtype == "float32" else "float16"
        given: dict[str, Any] = {
            "adapter": record_of(encode(self.adapter, down, config.trained)),
            "round": name,
        }
        metadata = Metadata(RUN, "cd" * 32, 1, NODE, "", "", 1.0, 3600.0, kind)
        asked = Message(content=RecordDict(given), metadata=metadata)  # type: ignore[call-overload]
        if kind != "query":
            content = {**content, "round": name}
        if kind == "train":
            content["adapter"] = record_of(encode(self.adapter, dtype, config.trained))
        answer = Message(RecordDict(content), reply_to=asked)
        request = parse_request(asked, *_stored(asked), SubmittedRun(BUNDLE, RunSettings(config)))
        sent = self._gate.filter_reply(request, answer, *_stored(answer))
        assert sent is not None
        (*_, line) = read_entries(self._log)
        assert line["decision"] == decision, line
        # One request announces the message, and one sends each object.
        self.requests = 1 + len(get_all_nested_objects(sent))
        return line


def _stored(message: Message) -> tuple[Any, Any]:
    contents = {name: one.deflate() for name, one in get_all_nested_objects(message).items()}
    return get_object_tree(message), contents.__getitem__


if __name__ == "__main__":
    main()
