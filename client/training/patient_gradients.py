"""Per-patient gradients of the LoRA matrices, in one backward pass.

A LoRA matrix W is a linear layer y = W x. For a batch, autograd gives the gradient of the sum of
all losses; the gradient of one window's loss is the sum over its steps of (gradient of y) x^T, and
hooks see both factors: x in the forward pass, the gradient of y in the backward pass (Goodfellow,
arXiv 1510.01799). Windows must not interact in the network, which the backbones guarantee, and the
batch must be the first dimension, which is checked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from common.errors import TrainingError

NamedParameters = Sequence[tuple[str, torch.nn.Parameter]]


@contextmanager
def patient_gradients(
    model: torch.nn.Module, parameters: NamedParameters, owner: Tensor, patients: int
) -> Iterator[dict[str, Tensor]]:
    """Record per-patient gradients of the losses that are differentiated in the block.

    The block calls ``backward`` on the sum of its losses; the parameters' own ``grad`` is not
    touched, and the sum over all patients is not computed.

    Args:
        model: the model, with or without an adapter.
        parameters: weights of linear layers without bias, by their name in the model.
        owner: ``[B]``, each window's patient, 0 to `patients` - 1.
        patients: P.

    Yields:
        By the parameters' names: ``[P, *parameter.shape]``, zeros that ``backward`` fills.

    Raises:
        TrainingError: where a layer's batch size is not that of `owner`, or a layer recorded no
            gradient.
    """
    gradients = {name: weight.new_zeros((patients, *weight.shape)) for name, weight in parameters}
    seen: set[str] = set()

    def recorder(name: str) -> Callable[[torch.nn.Module, Any, Tensor], None]:
        def record(_layer: torch.nn.Module, inputs: Any, output: Tensor) -> None:
            given = inputs[0].detach()  # [B, ..., in]
            _check_batch(name, given, owner)

            def fold(upstream: Tensor) -> None:  # [B, ..., out]
                kind = gradients[name].dtype
                a_window = torch.einsum(
                    "b...i,b...j->bij", upstream.detach().to(kind), given.to(kind)
                )
                # Added, since a layer may be called more than once.
                gradients[name].index_add_(0, owner, a_window)
                seen.add(name)

            # The weights require no gradient in the block, so the output has to.
            hooked = output if output.requires_grad else output.requires_grad_()
            hooked.register_hook(fold)  # type: ignore[no-untyped-call]

        return record

    with ExitStack() as undo:
        for name, weight in parameters:
            weight.requires_grad_(False)
            undo.callback(weight.requires_grad_, True)
            layer = model.get_submodule(name.removesuffix(".weight"))
            undo.callback(layer.register_forward_hook(recorder(name)).remove)
        yield gradients
    silent = [name for name, _ in parameters if name not in seen]
    if silent:
        raise TrainingError(
            f"{len(silent)} of {len(parameters)} LoRA matrices gave no gradient per patient, first "
            f"{silent[0]}; leave the layer out of the backbone's LoRA projections, or train "
            "without privacy.*"
        )


def _check_batch(name: str, given: Tensor, owner: Tensor) -> None:
    if given.dim() < 2 or len(given) != len(owner):
        raise TrainingError(
            f"the input of {name} has shape {list(given.shape)}, expected {len(owner)} windows in "
            "the first dimension; a backbone that reorders its batch cannot train with privacy.*"
        )
