"""Inert stand-ins that a checkpoint's pickle is read into where a plain value does not do.

None of these holds or does anything of its own: they note what the file declares.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

STORAGES: dict[str, torch.dtype] = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """Place of a tensor in the checkpoint, as the file declares it; nothing is checked yet."""

    storage: object
    offset: object
    size: object
    stride: object


@dataclass(frozen=True)
class StorageType:
    """A kind of storage, by the type of its numbers."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Storage:
    """An entry of the archive that holds numbers: its name, and how many it is said to hold."""

    dtype: torch.dtype
    key: str
    numel: int


class OrderedDictType:
    """Stands for `collections.OrderedDict`: called without arguments, it gives a plain dict."""


class RebuildTensor:
    """Stands for `torch._utils._rebuild_tensor_v2`."""


class Inert:
    """What a pickle gets for whatever is not allowed: it can be called, filled and set up.

    Attributes:
        items: what was put into it under texts, as into a dict; a library's own kind of dict
            comes like this. None where nothing was.
    """

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: dict[str, object] | None = None


def look_up(module: str, name: str) -> object:
    """Return what stands for a name; an `Inert` for one that is not allowed."""
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDictType()
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        return RebuildTensor()
    if module == "torch" and name in STORAGES:
        return StorageType(STORAGES[name])
    return Inert()
