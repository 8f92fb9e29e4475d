from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from common.backbones.limits import check_backbone_limits
from common.backbones.loading import load_backbone
from common.backbones.lora import largest_rank
from common.config.run_config import LoraConfig, RunConfig
from common.errors import BackboneError, FedvitalsError


def config_of(backbone: Path, settings: Mapping[str, Any]) -> RunConfig:
    return RunConfig.parse({"backbone": str(backbone), **settings})


@pytest.mark.parametrize(
    "settings", [{"lora.rank": 16}, {"windows.horizon": 12}, {"windows.context": 200}]
)
def test_what_the_backbone_can_have_passes(tiny_bolt: Path, settings: Mapping[str, Any]) -> None:
    check_backbone_limits(config_of(tiny_bolt, settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora.rank": 17}, "lora.rank = 17 is above .*; set lora.rank to at most 16"),
        (
            {"lora.rank": 100, "lora.scope": "attention+feed-forward"},
            "set lora.rank to at most 16",
        ),
        ({"windows.horizon": 1000}, "at most [0-9]+ steps, got windows.horizon = 1000"),
    ],
)
def test_what_it_cannot_have_is_refused_with_the_largest_value(
    tiny_bolt: Path, settings: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(FedvitalsError, match=message):
        check_backbone_limits(config_of(tiny_bolt, settings))


def test_without_an_adapter_the_rank_does_not_count(tiny_bolt: Path) -> None:
    check_backbone_limits(config_of(tiny_bolt, {"lora.rank": 100}), adapted=False)


def test_a_scope_without_a_layer_is_refused(
    tiny_bolt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_backbone(str(tiny_bolt))
    monkeypatch.setattr(type(loaded.backbone), "attention", "nowhere")
    with pytest.raises(BackboneError, match=r"no layer of this chronos-bolt matches lora.scope"):
        largest_rank(loaded.model, loaded.backbone, LoraConfig().scope)
