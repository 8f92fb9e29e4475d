"""A reader of torch checkpoints that can execute nothing.

A checkpoint is a zip of one pickle and the tensors' bytes. A pickle is a program: it may name any
function of any installed module and call it. Here it can name `OrderedDict`, the function that
torch's tensors are rebuilt by, and the storage types; the last two are stand-ins that only note
what is asked for. Every other name becomes an inert object that swallows whatever is done to it.

Nothing a file declares is believed before it is compared with the bytes that are there: neither the
zip's sizes, nor a pickle's lengths, nor a tensor's shape.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from common.errors import BackboneError

_LONGEST_PICKLE = 1 << 24
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, NotImplementedError, EOFError, ValueError)

_STORAGES: dict[str, torch.dtype] = {
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

_MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
# They look names up in a registry of the process, and not through the unpickler.
_REGISTRY_OPCODES = frozenset({"EXT1", "EXT2", "EXT4"})


class _Sealed:
    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError(f"it gives a state to {type(self).__name__}")


@dataclass(frozen=True)
class StoredTensor(_Sealed):
    """Where a tensor lies in the checkpoint, as the file declares it; nothing is checked yet."""

    storage: object
    offset: object
    size: object
    stride: object


@dataclass(frozen=True)
class _StorageType(_Sealed):
    dtype: torch.dtype


@dataclass(frozen=True)
class _Storage(_Sealed):
    dtype: torch.dtype
    key: str
    numel: int


class _RebuildTensor(_Sealed):
    """Stands for `torch._utils._rebuild_tensor_v2`."""

    def __call__(
        self, storage: object, offset: object, size: object, stride: object, *_rest: object
    ) -> StoredTensor:
        return StoredTensor(storage, offset, size, stride)


class Inert:
    """What a pickle gets for a name that is not allowed: it can be called, filled and set up.

    Attributes:
        items: what was put into it as into a dict; a library's own kind of dict comes like this.
    """

    items: dict[object, object]

    def __new__(cls, *_arguments: object, **_named: object) -> Inert:
        """Take any arguments and keep none."""
        made = super().__new__(cls)
        made.items = {}
        return made

    def __call__(self, *_arguments: object, **_named: object) -> Inert:
        """Be called, and do nothing."""
        return self

    def __setitem__(self, key: object, value: object) -> None:
        """Keep the item."""
        self.items[key] = value

    def __setstate__(self, _state: object) -> None:
        """Be given a state, and drop it."""

    def append(self, _value: object) -> None:
        """Be filled as a list or a set, and drop the value."""

    extend = add = append


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self.strangers: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _RebuildTensor()
        if module == "torch" and name in _STORAGES:
            return _StorageType(_STORAGES[name])
        self.strangers.add(_printable(f"{module}.{name}"))
        return Inert

    def persistent_load(self, pid: Any) -> object:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(numel)) if key.isalnum():
                return _Storage(dtype, key, numel)
        raise pickle.UnpicklingError("it asks for something outside itself that is no storage")


class Checkpoint:
    """An open checkpoint.

    Attributes:
        content: what its pickle holds: plain values, `StoredTensor` and `Inert`.
        strangers: the names that its pickle asks for and that were not looked up.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        """Read the pickle; the tensors' bytes stay in the file until they are asked for."""
        self._path, self._archive = path, archive
        _check_sizes(path, archive)
        roots = {name.split("/")[0] for name in archive.namelist() if name.endswith("/data.pkl")}
        if len(roots) != 1:
            raise damaged(path, "it is a zip, but holds no data.pkl of torch's")
        self._root = roots.pop()
        byte_order = f"{self._root}/byteorder"
        if byte_order in archive.namelist() and self._read("byteorder", 6) != b"little":
            raise damaged(path, "its tensors are not little-endian")
        data = self._read("data.pkl", _LONGEST_PICKLE)
        unpickler = _Unpickler(data)
        try:
            _check_opcodes(data)
            self.content: object = unpickler.load()
        # Whatever a hostile pickle does to the unpickler's stack, it ends in some exception.
        except Exception as error:
            raise damaged(path, f"its pickle is damaged or hostile: {_brief(error)}") from error
        self.strangers = tuple(sorted(unpickler.strangers))

    def tensor(self, name: str, stored: StoredTensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Read one tensor's bytes.

        Args:
            name: how messages call it.
            stored: from `content`.
            shape: what it has to be; compared before anything is read.

        Raises:
            BackboneError: where its shape is another, or does not fit the bytes that are there.
        """
        if stored.size != shape:
            raise damaged(self._path, f"{name} should have shape {shape}, got another")
        storage, stride, offset = stored.storage, stored.stride, stored.offset
        if (
            not isinstance(storage, _Storage)
            or not isinstance(stride, tuple)
            or not isinstance(offset, int)
            or len(stride) != len(shape)
            or not all(type(part) is int and part >= 0 for part in (*stride, offset))
        ):
            raise damaged(self._path, f"{name} is no tensor")
        data = self._read(f"data/{storage.key}", storage.numel * storage.dtype.itemsize)
        held = len(data) // storage.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if max(last + 1, math.prod(shape)) > held:
            raise damaged(self._path, f"{name} is declared larger than its {len(data)} bytes")
        flat = torch.frombuffer(bytearray(data), dtype=storage.dtype)
        return flat.as_strided(shape, stride, offset).clone()

    def _read(self, name: str, most: int) -> bytes:
        try:
            entry = self._archive.getinfo(f"{self._root}/{name}")
            if entry.file_size > most:
                raise damaged(self._path, f"{name} has {entry.file_size} bytes, expected {most}")
            return self._archive.read(entry)
        except KeyError:
            raise damaged(self._path, f"it holds no {name}") from None
        except (*_ZIP_ERRORS, RuntimeError) as error:  # RuntimeError: encrypted
            raise damaged(self._path, f"{name} cannot be read: {_brief(error)}") from error


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """Open a checkpoint written by `torch.save`, or by Lightning, which uses it.

    Raises:
        BackboneError: where it is absent, no such file, damaged or hostile.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BackboneError(f"there is no checkpoint at {path}") from None
    except _ZIP_ERRORS as error:
        raise damaged(path, f"it is no zip, or only a part of one: {_brief(error)}") from error
    with archive:
        yield Checkpoint(path, archive)


def as_dict(value: object) -> dict[object, object]:
    """Return what a dict of the checkpoint holds; an empty one for anything that is not one."""
    if isinstance(value, Inert):
        return value.items
    return dict(dict.items(value)) if isinstance(value, dict) else {}


def damaged(path: Path, reason: str) -> BackboneError:
    """Return the error for a file that cannot be converted."""
    return BackboneError(f"{path} cannot be converted: {reason}; fetch the checkpoint again")


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would unpack to more than the file holds.

    torch stores its entries without compression, one after the other.
    """
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    stored = all(
        entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
        for entry in entries
    )
    if not stored or total > path.stat().st_size:
        raise damaged(path, f"its entries declare {total} bytes, which torch did not write so")


def _check_opcodes(data: bytes) -> None:
    """Walk through a pickle without obeying it, and refuse what its size does not bound.

    The walk itself fails on a length that reaches beyond the end.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _REGISTRY_OPCODES:
            raise pickle.UnpicklingError(f"opcode {opcode.name}, which torch does not write")
        # The unpickler's memo is a list: a slot number far out would make it that long.
        if opcode.name in _MEMO_OPCODES and not 0 <= int(argument or 0) <= len(data):
            raise pickle.UnpicklingError(f"memo slot {argument} in {len(data)} bytes")


def _brief(error: Exception) -> str:
    text = _printable(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _printable(text: str) -> str:
    """Return a file's text so that it can do nothing to a terminal either."""
    return text[:100].encode("unicode_escape").decode()
