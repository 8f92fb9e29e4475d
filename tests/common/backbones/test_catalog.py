from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from common.backbones.catalog import CATALOG, FAMILIES, family_of_folder
from common.backbones.loading import load_backbone
from common.backbones.weights_store import PACKAGED
from common.errors import BackboneError


def test_published_weights_are_pinned_to_a_commit() -> None:
    for entry in CATALOG.values():
        assert entry.family in FAMILIES
        if not entry.packaged:
            assert len(entry.revision) == 40
            int(entry.revision, 16)


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
