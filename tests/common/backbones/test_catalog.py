from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from common.adapter.peft_io import save_peft_folder
from common.backbones.base import ModelForecaster
from common.backbones.catalog import CATALOG, FAMILIES, family_of_folder
from common.backbones.loading import load_backbone
from common.backbones.lora import adapted_backbone, lora_parameters
from common.backbones.weights_store import PACKAGED
from common.config.run_config import LoraConfig
from common.errors import BackboneError

HEART_RATE = np.array([[88, 90, np.nan, 93, 91, 95, 97, 96]], np.float32)


def test_published_weights_are_pinned_to_a_commit() -> None:
    for entry in CATALOG.values():
        assert entry.family in FAMILIES
        if not entry.packaged:
            assert len(entry.revision) == 40
            int(entry.revision, 16)


@pytest.mark.parametrize("name", [name for name, entry in FAMILIES.items() if entry.usage])
def test_the_usage_text_has_the_fields_of_the_model_card(name: str) -> None:
    text = FAMILIES[name].usage.format(backbone='"a-folder"', horizon=6)
    assert '"a-folder"' in text
    assert "prediction_length=6" in text


@pytest.mark.slow
@pytest.mark.parametrize("family", [name for name, entry in FAMILIES.items() if entry.usage])
def test_the_familys_own_package_forecasts_the_same(family: str, tmp_path: Path) -> None:
    name = next(name for name, entry in CATALOG.items() if entry.family == family)
    adapted_backbone.cache_clear()
    adapted = adapted_backbone(name, LoraConfig(rank=2), torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in lora_parameters(adapted.model):
            parameter.normal_(0, 0.05, generator=generator)
    save_peft_folder(adapted.adapter(), tmp_path / "adapter")
    ours = ModelForecaster(adapted.backbone, adapted.model).forecast(HEART_RATE, np.array([0]), 6)
    adapted_backbone.cache_clear()

    text = FAMILIES[family].usage.format(backbone=json.dumps(str(PACKAGED / name)), horizon=6)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace('"adapter"', repr(str(tmp_path / "adapter"))), names)
    theirs = np.asarray(names["quantiles"][0]).reshape(6, 3)
    # Beats a minute; a little is left, since ours are sorted where the network lets them cross.
    np.testing.assert_allclose(theirs, ours[0][:, [0, 4, 8]], atol=0.1)


def test_every_packaged_model_is_there_small_and_as_large_as_told() -> None:
    for name in (name for name, entry in CATALOG.items() if entry.packaged):
        weights = PACKAGED / name / "model.safetensors"
        assert weights.stat().st_size < 4 * 2**20
        assert sum(array.size for array in load_file(weights).values()) == CATALOG[name].parameters
        assert {"README.md", "recipe.json", "training_log.csv"} <= {
            path.name for path in weights.parent.iterdir()
        }


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"chronos_pipeline_class": "ChronosBoltPipeline"}, "chronos-bolt"),
        ({"chronos_pipeline_class": "ChronosPipeline"}, "chronos-t5"),
        ({"chronos_config": {"tokenizer_class": "MeanScaleUniformBins"}}, "chronos-t5"),
        ({"chronos_pipeline_class": "Chronos2Pipeline"}, "chronos-2"),
        ({"patch_sizes": [8, 16, 32], "d_model": 384}, "moirai"),
        ({"model_type": "lag-llama"}, "lag-llama"),
    ],
)
def test_a_folder_tells_its_family(
    tmp_path: Path, config: dict[str, object], expected: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert family_of_folder(tmp_path) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "bert"}', "of no known family; known are: chronos-bolt"),
        ("{half", "cannot be read"),
        ("[1]", "cannot be read"),
    ],
)
def test_a_stranger_s_folder_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BackboneError, match="holds no config"):
        family_of_folder(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BackboneError, match=message):
        load_backbone(str(tmp_path))
