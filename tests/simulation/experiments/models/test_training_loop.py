"""Training outside the apps is what the apps do."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from client.training.adapter_training import TrainingResult, train_adapter
from common.adapter.peft_io import load_peft_folder
from common.backbones.loading import load_backbone
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.data.site_table import read_site_table, write_site_table
from simulation.experiments.cell_cache import Cell
from simulation.experiments.models.fine_tuned import _pooled, fresh_network
from simulation.experiments.models.registry import METHODS
from simulation.experiments.models.scoring import POOLED, cohort_windows, training_windows
from simulation.experiments.models.training_loop import average, train_rounds
from simulation.run import federate


@pytest.mark.parametrize("members", [["ccu"], ["ccu", "micu", "sicu"]])
def test_the_loop_ends_in_the_adapter_of_the_federation(
    quick: RunConfig, tmp_path: Path, members: list[str]
) -> None:
    cohort = tmp_path / "cohort"
    for site in members:
        table = cohort / "sites" / f"{site}.parquet"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_bytes((Path(quick.data) / "sites" / f"{site}.parquet").read_bytes())
    config = quick.replace(
        data=str(cohort),
        out=str(tmp_path / "run"),
        rounds=2,
        federation=quick.federation.replace(min_sites=1),
    )
    released = load_peft_folder(federate(config) / "adapter")

    adapted = adapted_backbone(config.backbone, config.lora, torch.device("cpu"))
    adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    train_rounds(adapted.model, adapted.backbone, cohort_windows(config), config)
    for name, matrix in adapted.adapter().tensors.items():
        np.testing.assert_allclose(matrix, released.tensors[name], rtol=0, atol=1e-7)


def test_pooled_data_have_every_training_patient_of_the_federation(
    quick: RunConfig, tmp_path: Path
) -> None:
    cohort = tmp_path / "cohort"
    shutil.copytree(quick.data, cohort)
    path = cohort / "sites" / "ccu.parquet"
    table = read_site_table(path)
    untested = table.frame[table.frame["split"] != "test"]
    write_site_table(dataclasses.replace(table, frame=untested), path)
    config = quick.replace(data=str(cohort))
    assert list(cohort_windows(config)) == ["micu", "sicu"]
    assert list(training_windows(config)) == ["ccu", "micu", "sicu"]
    members, _ = _pooled(config)
    assert members[POOLED].train.patient_ids == tuple(
        f"{site}/{patient}"
        for site, windows in training_windows(config).items()
        for patient in windows.train.patient_ids
    )


def test_all_weights_are_trained_and_the_better_round_is_kept(quick: RunConfig) -> None:
    loaded = load_backbone(quick.backbone)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    model = loaded.model.requires_grad_(True)
    trained = train_rounds(model, loaded.backbone, cohort_windows(quick), quick)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    assert trained.parameters == numbers
    # Three sites, there and back once, and there for the last validation.
    assert trained.traffic == 4 * numbers * 3 * 3
    changed = any(not torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert changed == (trained.best_round > 0)
    assert trained.validation <= 1.0


def test_the_mean_is_weighted_by_name() -> None:
    states = {"b": {"w": torch.tensor([1.0, 2.0])}, "a": {"w": torch.tensor([5.0, 6.0])}}
    mean = average(states, {"a": 1.0, "b": 3.0, "absent": 9.0})
    torch.testing.assert_close(mean["w"], torch.tensor([2.0, 3.0]))


def test_pooled_data_take_as_many_steps_as_the_sites_together(
    quick: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []

    def counting(*words: Any, **more: Any) -> TrainingResult:
        result = train_adapter(*words, **more)
        taken.append(result.steps)
        return result

    monkeypatch.setattr("simulation.experiments.models.training_loop.train_adapter", counting)
    for method in ("centralised", "centralised-full", "federated-full"):
        METHODS[method].run(Cell("x", method, quick), Path(), lambda _: None)
    assert taken == [6, 6, 2, 2, 2]


def test_fresh_weights_are_of_the_same_architecture_and_of_the_seed(quick: RunConfig) -> None:
    pretrained = load_backbone(quick.backbone)
    one, same, other = (fresh_network(quick.backbone, seed) for seed in (1, 1, 2))
    shapes = {name: tensor.shape for name, tensor in pretrained.model.state_dict().items()}
    assert {name: tensor.shape for name, tensor in one.model.state_dict().items()} == shapes
    assert one.digest == same.digest
    assert len({one.digest, other.digest, pretrained.digest}) == 3
