from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from client.training.adapter_training import (
    TrainingResult,
    autocast,
    choose_device,
    to_device,
    train_adapter,
)
from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_into
from common.backbones.base import weights_digest
from common.backbones.lora import AdaptedBackbone, adapted_backbone, lora_parameters
from common.config.run_config import LoraConfig, TrainConfig
from common.data.site_table import read_site_table
from common.data.windows import Windows, WindowSettings, make_windows
from common.errors import TrainingError

CONFIG = TrainConfig(batch=16, steps=4, learning_rate=1e-2)


@pytest.fixture
def adapted(tiny_bolt: Path) -> AdaptedBackbone:
    adapted_backbone.cache_clear()
    return adapted_backbone(str(tiny_bolt), LoraConfig(rank=2), torch.device("cpu"))


@pytest.fixture(scope="module")
def windows(tiny_cohort: Path) -> Windows:
    table = read_site_table(tiny_cohort / "sites" / "micu.parquet")
    return make_windows(table, "train", WindowSettings(24, 6, 6, 8))


def train(
    adapted: AdaptedBackbone,
    windows: Windows,
    config: TrainConfig = CONFIG,
    seed: int = 1,
    learning_rate: float = CONFIG.learning_rate,
) -> tuple[TrainingResult, Adapter]:
    load_into(adapted.fresh_adapter(0), adapted.model)
    result = train_adapter(
        adapted.model,
        adapted.backbone,
        windows,
        config,
        learning_rate=learning_rate,
        seed=seed,
    )
    return result, adapted.adapter()


def test_the_base_stays_and_every_matrix_moves(adapted: AdaptedBackbone, windows: Windows) -> None:
    before = adapted.fresh_adapter(0)
    _, after = train(adapted, windows)
    assert weights_digest(adapted.model) == adapted.digest
    for name, tensor in after.tensors.items():
        assert not np.array_equal(tensor, before.tensors[name]), f"{name} did not move"


def test_ffa_moves_every_b_and_leaves_every_bit_of_a(
    adapted: AdaptedBackbone, windows: Windows
) -> None:
    before = adapted.fresh_adapter(0)
    train_adapter(
        adapted.model,
        adapted.backbone,
        windows,
        CONFIG,
        learning_rate=1e-2,
        seed=1,
        trained="b",
    )
    after = adapted.adapter()
    for name, tensor in after.tensors.items():
        assert np.array_equal(tensor, before.tensors[name]) == (".lora_A." in name), name
    assert all(weight.requires_grad for _, weight in lora_parameters(adapted.model))
    assert len(lora_parameters(adapted.model)) == len(after.tensors)


def test_the_same_seed_gives_the_same_bytes(adapted: AdaptedBackbone, windows: Windows) -> None:
    first = train(adapted, windows)
    torch.rand(5)
    assert train(adapted, windows) == first
    assert train(adapted, windows, seed=2)[1] != first[1]


def test_dropout_comes_from_the_seed_too(tiny_bolt: Path, windows: Windows) -> None:
    adapted_backbone.cache_clear()
    config = LoraConfig(rank=2, dropout=0.5)
    adapted = adapted_backbone(str(tiny_bolt), config, torch.device("cpu"))
    first = train(adapted, windows)
    torch.rand(5)
    assert train(adapted, windows) == first


def test_the_loss_falls(adapted: AdaptedBackbone, windows: Windows) -> None:
    early, _ = train(adapted, windows, CONFIG.replace(steps=5))
    late, _ = train(adapted, windows, CONFIG.replace(steps=120))
    assert late.loss < 0.95 * early.loss


def test_epochs_and_steps_are_counted(adapted: AdaptedBackbone, windows: Windows) -> None:
    an_epoch = -(-len(windows) // 16)
    assert train(adapted, windows, CONFIG.replace(steps=0, epochs=2))[0].steps == 2 * an_epoch
    assert train(adapted, windows, CONFIG.replace(steps=an_epoch + 3))[0].steps == an_epoch + 3


def test_the_proximal_term_keeps_the_adapter_near(
    adapted: AdaptedBackbone, windows: Windows
) -> None:
    start = adapted.fresh_adapter(0)

    def distance(proximal: float) -> float:
        config = CONFIG.replace(steps=30, proximal=proximal)
        _, adapter = train(adapted, windows, config)
        squares = (
            np.square(adapter.tensors[name] - start.tensors[name]).sum() for name in start.tensors
        )
        return float(np.sqrt(sum(squares)))

    assert distance(100.0) < 0.7 * distance(0.0)


def test_clipping_bounds_the_gradient(
    adapted: AdaptedBackbone, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    real = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: None = None) -> None:
        grads = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.linalg.vector_norm(torch.cat([g.ravel() for g in grads]))))
        real(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(adapted, windows, CONFIG.replace(clip=1e-3))
    assert max(norms) <= 1e-3 * 1.001
    norms.clear()
    train(adapted, windows, CONFIG.replace(clip=0.0))
    assert max(norms) > 1e-3


def test_a_training_that_diverges_says_so(adapted: AdaptedBackbone, windows: Windows) -> None:
    wild = CONFIG.replace(clip=0.0, steps=20)
    with pytest.raises(TrainingError, match=r"lower train\.learning-rate"):
        train(adapted, windows, wild, learning_rate=1e30)


def test_no_window_at_all_is_refused(adapted: AdaptedBackbone, windows: Windows) -> None:
    with pytest.raises(TrainingError, match="no training window; its stays are too short"):
        train(adapted, windows.take(slice(0, 0)))


def test_devices() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="cuda is not available"):
            choose_device("cuda")


def test_no_autocast_on_a_cpu() -> None:
    with autocast(torch.device("cpu")):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_a_batch_moves_whole() -> None:
    batch = {"context": torch.ones(2, 3)}
    assert torch.equal(to_device(batch, torch.device("cpu"))["context"], batch["context"])
