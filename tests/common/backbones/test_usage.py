from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.adapter.peft_io import save_peft_folder
from common.backbones.base import ModelForecaster
from common.backbones.catalog import CATALOG, FAMILIES
from common.backbones.lora import adapted_backbone, lora_parameters
from common.backbones.usage import USAGE
from common.backbones.weights_store import PACKAGED
from common.config.run_config import LoraConfig

HEART_RATE = np.array([[88, 90, np.nan, 93, 91, 95, 97, 96]], np.float32)


def test_the_families_exist() -> None:
    assert set(USAGE) <= set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize("family", USAGE)
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

    text = USAGE[family].format(backbone=json.dumps(str(PACKAGED / name)), horizon=6)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.replace('"adapter"', repr(str(tmp_path / "adapter"))), names)
    theirs = np.asarray(names["quantiles"][0]).reshape(6, 3)
    # Beats a minute; a little is left, since ours are sorted where the network lets them cross.
    np.testing.assert_allclose(theirs, ours[0][:, [0, 4, 8]], atol=0.1)
