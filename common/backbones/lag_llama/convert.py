"""Conversion of the published Lag-Llama checkpoint, a Lightning pickle, into safetensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from common.backbones.lag_llama.lag_llama import network_of, tensor_shapes, write_weights
from common.backbones.lag_llama.sizes import LagLlamaSizes
from common.backbones.torch_pickle.checkpoint import (
    TorchCheckpoint,
    as_dict,
    damaged,
    open_checkpoint,
)
from common.backbones.torch_pickle.placeholders import StoredTensor
from common.backbones.weights_store import WEIGHT_FILES
from common.errors import UsageError
from common.files.atomic_io import atomic_folder
from common.files.output_folder import check_replaceable

_PREFIX = "model."
# The only settings that the network here supports; others would load and forecast wrong.
_REQUIRED: dict[str, object] = {"scaling": "robust", "input_size": 1, "rope_scaling": None}
# Elements of one setting; the published model has 84 lags.
_MOST_PARTS = 512


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        sizes: sizes of the network.
        tensors: number of tensors written.
        parameters: number of elements in them.
        unknown_names: unknown names in the pickle, which were ignored and not executed.
    """

    sizes: LagLlamaSizes
    tensors: int
    parameters: int
    unknown_names: tuple[str, ...]


def convert_lag_llama(checkpoint: Path, out: Path) -> Conversion:
    """Write `config.json` and `model.safetensors` from a Lightning checkpoint of Lag-Llama.

    Args:
        checkpoint: the file, e.g. `lag-llama.ckpt`. Nothing in it is executed.
        out: the folder to write; older weights there are replaced atomically.

    Raises:
        BackboneError: the file is damaged, hostile or of another model.
        UsageError: `out` holds anything but weights.
    """
    _check_replaceable(out)
    with open_checkpoint(checkpoint) as opened:
        sizes = _sizes(checkpoint, opened)
        stored = _stored_tensors(checkpoint, opened)
        try:
            shapes = tensor_shapes(sizes)
        except RuntimeError as error:  # more elements than torch can count
            raise damaged(checkpoint, "its sizes are impossible") from error
        for name in sorted(stored.keys() ^ shapes):
            what = "lacks" if name in shapes else "has, unlike a Lag-Llama of its sizes,"
            raise damaged(checkpoint, f"it {what} the tensor {(_PREFIX + name)[:100]!r}")
        tensors = {
            name: opened.tensor(f"{_PREFIX}{name}", stored[name], shape)
            for name, shape in shapes.items()
        }
        unknown_names = opened.unknown_names
    network = network_of(sizes, tensors, str(checkpoint))
    with atomic_folder(out) as partial:
        write_weights(partial, sizes, network.state_dict())
    parameters = sum(tensor.numel() for tensor in tensors.values())
    return Conversion(sizes, len(tensors), parameters, unknown_names)


def _stored_tensors(path: Path, opened: TorchCheckpoint) -> dict[str, StoredTensor]:
    """Return the tensors by the network's own names."""
    state = as_dict(as_dict(opened.content).get("state_dict"))
    stored = {
        name.removeprefix(_PREFIX): value
        for name, value in state.items()
        if name.startswith(_PREFIX) and isinstance(value, StoredTensor)
    }
    if not stored:
        names = ", ".join(opened.unknown_names[:3])
        requested = f", but names {names}, which was not run" if names else ""
        raise damaged(path, f"it holds no state_dict of tensors '{_PREFIX}...'{requested}")
    return stored


def _sizes(path: Path, opened: TorchCheckpoint) -> LagLlamaSizes:
    """Return the hyper-parameters; an absent one has its published value."""
    hyper_parameters = as_dict(as_dict(opened.content).get("hyper_parameters"))
    given = as_dict(hyper_parameters.get("model_kwargs"))
    for key, needed in _REQUIRED.items():
        if given.get(key, needed) != needed:
            raise damaged(path, f"its {key} is not {needed!r}, the only supported value")
    plain = {}
    for entry in fields(LagLlamaSizes):
        value = given.get(entry.name, entry.default)
        if len(_parts(value)) > _MOST_PARTS:
            raise damaged(path, f"its {entry.name} has {len(_parts(value))} parts")
        if not all(isinstance(part, int) for part in _parts(value)):
            raise damaged(path, f"its {entry.name} is not a plain number")
        plain[entry.name] = value
    return LagLlamaSizes.from_json(plain, str(path))


def _parts(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else (value,)


def _check_replaceable(out: Path) -> None:
    check_replaceable(out)
    if not out.exists():
        return
    if not out.is_dir() or {path.name for path in out.iterdir()} - set(WEIGHT_FILES):
        raise UsageError(f"{out} holds other files than weights; give a new folder")
