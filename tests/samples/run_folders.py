"""Adapters that were not trained, and run folders like those of a federation, made without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.adapter.adapter import Adapter
from common.config.run_config import RunConfig


def random_adapter(tiny_bolt: Path, seed: int = 1) -> Adapter:
    """An adapter on the tiny backbone with random A and B, which changes its forecasts."""
    import torch

    from common.adapter.peft_io import from_peft_model
    from common.backbones.loading import load_backbone
    from common.backbones.lora import add_adapter, lora_parameters
    from common.config.run_config import LoraConfig

    loaded = load_backbone(str(tiny_bolt))
    model = add_adapter(loaded.model, loaded.backbone, LoraConfig(rank=2, alpha=4.0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in lora_parameters(model):
            parameter.normal_(0.0, 0.2, generator=generator)
    return from_peft_model(model, str(tiny_bolt), loaded.digest)


def run_config_of(tiny_bolt: Path, trained_adapter: Adapter) -> dict[str, Any]:
    """A config.json of three sites, one more refused."""
    settings = {"backbone": str(tiny_bolt), "data": "/somewhere/data", "rounds": 2}
    windows = {"windows.context": 24, "windows.horizon": 4}
    return {
        "settings": RunConfig.parse({**settings, **windows}).flat(),
        "backbone": {
            "name": str(tiny_bolt),
            "family": "chronos-bolt",
            "facts": {
                "loss": "pinball loss",
                "input": "patches of 4 steps",
                "forecast": "quantiles",
            },
            "digest": trained_adapter.backbone_digest,
            "parameters": 10_000,
            "adapter_parameters": trained_adapter.num_parameters,
        },
        "sites": {
            site: {
                "patients": 10 + place,
                "windows": 100,
                "source": "synthetic",
                "rule": "random walks",
                "step_minutes": 60,
            }
            for place, site in enumerate(("ccu", "micu", "sicu"))
        },
        "sites_refused": {"tsicu": "no usable window"},
        "versions": {"python": "3.11.0", "flwr": "1.41.0"},
    }


def run_rounds_of() -> list[dict[str, Any]]:
    """Two rounds and the last validation; sicu is refused in round 2 and never validates."""

    def entry(number: int, site: str) -> dict[str, Any]:
        if (number, site) == (2, "sicu"):
            return {"bytes_sent": 400, "bytes_received": 0, "refused": "no reply within 5 s"}
        trained = number < 3
        return {
            "bytes_sent": 400,
            "bytes_received": 300 if trained else 0,
            "patients": 10,
            "windows": 100,
            "steps": 5 if trained else 0,
            "loss": 0.5 / number if trained else 0.0,
            "validation": {} if site == "sicu" else {"wql": 0.1 / number, "wql.spo2": 0.01},
            "seconds": {"training": 1.5, "validation": 0.5},
            "weight": 1 / 3,
        }

    return [
        {
            "round": number,
            "trained": number < 3,
            "learning_rate": 0.003,
            "validated_round": number - 1,
            "validation_wql": 0.1 / number,
            "best_round": number - 1,
            "sites": {site: entry(number, site) for site in ("ccu", "micu", "sicu")},
        }
        for number in (1, 2, 3)
    ]


def write_run(
    folder: Path,
    config: dict[str, Any],
    rounds: list[dict[str, Any]],
    adapter: Adapter,
    best_round: int,
) -> None:
    from server.release.release import write_release

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "rounds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rounds))
    write_release(folder, adapter, best_round)
