"""Inert placeholders for the objects in a checkpoint's pickle that are not plain values.

They have no behaviour; they record what the file declares.
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
    """Location of a tensor in the checkpoint, as declared by the file and not yet checked."""

    storage: object
    offset: object
    size: object
    stride: object


@dataclass(frozen=True)
class StorageType:
    """Type of a storage, by the type of its elements."""

    dtype: torch.dtype


@dataclass(frozen=True)
class Storage:
    """Entry of the archive with tensor data: its name and its declared number of elements."""

    dtype: torch.dtype
    key: str
    numel: int


class OrderedDictType:
    """Placeholder of `collections.OrderedDict`; a call without arguments returns a plain dict."""


class RebuildTensor:
    """Placeholder of `torch._utils._rebuild_tensor_v2`."""


class Inert:
    """Placeholder of everything outside the allowlist: it can be called, filled and set up.

    Attributes:
        items: items that were set under text keys, as in a dict; None if there were none. A
            library's own dict class appears like this.
    """

    __slots__ = ("items",)

    def __init__(self) -> None:
        self.items: dict[str, object] | None = None


def look_up(module: str, name: str) -> object:
    """Return the placeholder of a name; an `Inert` for one outside the allowlist."""
    if (module, name) == ("collections", "OrderedDict"):
        return OrderedDictType()
    if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
        return RebuildTensor()
    if module == "torch" and name in STORAGES:
        return StorageType(STORAGES[name])
    return Inert()
