"""Trained adapter and run folders like those of a federation, made without running one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.adapter.adapter import Adapter
from common.config.run_config import RunConfig

MakeRun = Callable[..., Path]


@pytest.fixture(scope="session")
def trained_adapter(tiny_bolt: Path) -> Adapter:
    """An adapter on the tiny backbone with random A and B, which changes its forecasts."""
    import torch

    from common.adapter.peft_io import from_peft_model
    from common.backbones.loading import load_backbone
    from common.backbones.lora import add_adapter, lora_parameters
    from common.config.run_config import LoraConfig

    loaded = load_backbone(str(tiny_bolt))
    model = add_adapter(loaded.model, loaded.backbone, LoraConfig(rank=2, alpha=4.0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(model):
            parameter.normal_(0.0, 0.2, generator=generator)
    return from_peft_model(model, str(tiny_bolt), loaded.digest)


@pytest.fixture
def run_config(tiny_bolt: Path, trained_adapter: Adapter) -> dict[str, Any]:
    """A config.json of three sites, one more refused."""
    return _config(tiny_bolt, trained_adapter)


@pytest.fixture
def run_rounds() -> list[dict[str, Any]]:
    """Two rounds and the last validation; sicu is refused in round 2 and never validates."""
    return _rounds()


@pytest.fixture
def make_run(
    tmp_path: Path,
    trained_adapter: Adapter,
    run_config: dict[str, Any],
    run_rounds: list[dict[str, Any]],
) -> MakeRun:
    """Write and release a run folder, with other settings or rounds where given."""

    def make(
        name: str = "run",
        config: dict[str, Any] | None = None,
        rounds: list[dict[str, Any]] | None = None,
        adapter: Adapter | None = None,
        best_round: int = 2,
    ) -> Path:
        lines = run_rounds if rounds is None else rounds
        folder = tmp_path / name
        _write(folder, config or run_config, lines, adapter or trained_adapter, best_round)
        return folder

    return make


@pytest.fixture(scope="session")
def evaluated_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_bolt: Path,
    tiny_cohort: Path,
    trained_adapter: Adapter,
) -> Path:
    """A run folder, released and evaluated; for tests that only read it."""
    from server.release.evaluation import evaluate_run

    folder = tmp_path_factory.mktemp("evaluated") / "run"
    _write(folder, _config(tiny_bolt, trained_adapter), _rounds(), trained_adapter, 2)
    evaluate_run(folder, tiny_cohort)
    return folder


def _config(tiny_bolt: Path, trained_adapter: Adapter) -> dict[str, Any]:
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


def _rounds() -> list[dict[str, Any]]:
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


def _write(
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
