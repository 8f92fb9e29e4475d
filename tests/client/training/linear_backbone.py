"""The smallest model that takes an adapter: one linear layer, a millisecond a step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from common.backbones.base import Batch
from common.backbones.lora import draw_matrices, lora_parameters
from common.data.windows import FloatArray, IntArray, Windows

CONTEXT, HORIZON = 6, 2


class LinearBackbone:
    """Forecasts the target as a linear function of the context, with a squared loss."""

    family = "linear"
    attention = feed_forward = r"0"

    def build(self, weights: Path) -> torch.nn.Module:
        raise NotImplementedError("its model is made by the test")

    def collate(self, context: FloatArray, target: FloatArray | None, vital: IntArray) -> Batch:
        assert target is not None
        return {"context": torch.from_numpy(context), "target": torch.from_numpy(target)}

    def window_loss(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        error = model(batch["context"]) - batch["target"]
        loss: torch.Tensor = error.square().mean(dim=1)
        return loss

    def predict_quantiles(
        self, model: torch.nn.Module, batch: Batch, horizon_steps: int, levels: Sequence[float]
    ) -> torch.Tensor:
        raise NotImplementedError("its model is made by the test")

    def facts(self, model: torch.nn.Module) -> dict[str, str]:
        raise NotImplementedError("its model is made by the test")


def linear_model(rank: int = 2) -> PeftModel:
    """A frozen layer [2, 6] with an adapter whose A is drawn and whose B is zero."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(CONTEXT, HORIZON)).requires_grad_(False)
    wrapped = get_peft_model(plain, LoraConfig(r=rank, lora_alpha=rank, target_modules=r"0"))
    drawn = draw_matrices(wrapped, 3)
    with torch.no_grad():
        for name, parameter in lora_parameters(wrapped):
            parameter.copy_(drawn[name])
    model: PeftModel = wrapped.eval()
    return model


def linear_windows(counts: Sequence[int], seed: int = 0) -> Windows:
    """Windows of patients that have so many each, in random order."""
    random = np.random.default_rng(seed)
    number = sum(counts)
    return Windows(
        context=random.normal(size=(number, CONTEXT)).astype(np.float32),
        target=random.normal(size=(number, HORIZON)).astype(np.float32),
        vital=np.zeros(number, np.int64),
        patient=random.permutation(np.repeat(np.arange(len(counts)), counts)),
        patient_ids=tuple(map(str, range(len(counts)))),
    )
