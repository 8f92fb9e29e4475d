"""Reader of torch checkpoints that executes nothing in them, with bounded time and memory.

A checkpoint is a zip of one pickle and the tensors' bytes. A pickle is a program: it can name any
function of any installed module and call it. The interpreter here
(`common.backbones.torch_pickle.opcodes`) cannot call functions: names become placeholders that only
record the request.

Every declaration in the file is compared with the actual bytes before it is used: the sizes in the
zip, the lengths in the pickle, the shapes of tensors. Time and memory are bounded by the file's
size: the content is never traversed as a whole, each entry of the zip is read once, and all tensors
together are no larger than the file.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from common.backbones.torch_pickle.byte_source import MAX_SHOWN, PickleError
from common.backbones.torch_pickle.opcodes import read_pickle
from common.backbones.torch_pickle.placeholders import Inert, Storage, StoredTensor
from common.errors import BackboneError
from common.names import printable

_LONGEST_PICKLE = 1 << 24
# Bytes of the zip's directory, whose entries take about ten times as much memory.
_LONGEST_DIRECTORY = 1 << 22
_ZIP_ERRORS = (zipfile.BadZipFile, OSError, NotImplementedError, EOFError, ValueError)


class _ZipFile(io.FileIO):
    """File whose reads are limited while it is opened as a zip."""

    opening = True

    def read(self, size: int | None = -1, /) -> Any:
        """Read like any file, but at most the size limit of a directory while it is opened."""
        if self.opening:
            left = os.fstat(self.fileno()).st_size - self.tell()
            wanted = left if size is None or size < 0 else min(size, left)
            if wanted > _LONGEST_DIRECTORY:
                raise zipfile.BadZipFile(f"its directory has {wanted} bytes")
        return super().read(-1 if size is None else size)


class TorchCheckpoint:
    """An open checkpoint.

    Attributes:
        content: content of its pickle: plain values, `StoredTensor` and `Inert`.
        unknown_names: names in its pickle that are not in the allowlist.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        """Read the pickle; the tensors' bytes are read on request."""
        self._path, self._archive = path, archive
        _check_sizes(path, archive)
        roots = {name.split("/")[0] for name in archive.namelist() if name.endswith("/data.pkl")}
        if len(roots) != 1:
            raise damaged(path, "it is a zip, but holds no data.pkl of torch")
        self._root = roots.pop()
        byte_order = f"{self._root}/byteorder"
        if byte_order in archive.namelist() and self._read("byteorder", 6) != b"little":
            raise damaged(path, "its tensors are not little-endian")
        self._storages: dict[str, bytearray] = {}
        self._room = path.stat().st_size
        try:
            self.content, self.unknown_names = read_pickle(self._read("data.pkl", _LONGEST_PICKLE))
        except PickleError as error:
            raise damaged(path, f"its pickle is damaged or hostile: {_brief(error)}") from error

    def tensor(self, name: str, stored: StoredTensor, shape: tuple[int, ...]) -> torch.Tensor:
        """Read one tensor's bytes.

        Args:
            name: its name in messages.
            stored: entry of `content`.
            shape: expected shape; compared before anything is read.

        Raises:
            BackboneError: its shape differs, or does not fit the bytes.
        """
        if stored.size != shape:
            raise damaged(self._path, f"{name} should have shape {shape}, got another")
        storage, stride, offset = stored.storage, stored.stride, stored.offset
        if (
            not isinstance(storage, Storage)
            or not isinstance(stride, tuple)
            or not isinstance(offset, int)
            or len(stride) != len(shape)
            or not all(type(part) is int and part >= 0 for part in (*stride, offset))
        ):
            raise damaged(self._path, f"{name} is not a tensor")
        data = self._numbers(storage)
        held = len(data) // storage.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if max(last + 1, math.prod(shape)) > held:
            raise damaged(self._path, f"{name} is declared larger than its {len(data)} bytes")
        # Many tensors can share one storage and be larger together than the file.
        self._room -= math.prod(shape) * storage.dtype.itemsize
        if self._room < 0:
            raise damaged(self._path, "its tensors are declared larger than the file together")
        flat = torch.frombuffer(data, dtype=storage.dtype, count=held)
        return flat.as_strided(shape, stride, offset).clone()

    def _numbers(self, storage: Storage) -> bytearray:
        """Return a storage's bytes, which are read only once for all its tensors."""
        declared = storage.numel * storage.dtype.itemsize
        held = self._storages.get(storage.key)
        if held is None:
            held = self._storages[storage.key] = bytearray(
                self._read(f"data/{storage.key}", declared)
            )
        if len(held) > declared:
            raise damaged(self._path, f"data/{storage.key} has {len(held)} bytes, not {declared}")
        return held

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
def open_checkpoint(path: Path) -> Iterator[TorchCheckpoint]:
    """Open a checkpoint written by `torch.save`, or by Lightning, which uses it.

    Raises:
        BackboneError: it is absent, of another format, damaged or hostile.
    """
    try:
        file = _ZipFile(path)
    except FileNotFoundError:
        raise BackboneError(f"there is no checkpoint at {path}") from None
    except OSError as error:
        raise damaged(path, f"it cannot be read: {_brief(error)}") from error
    with file:
        try:
            archive = zipfile.ZipFile(file)
        except _ZIP_ERRORS as error:
            raise damaged(path, f"it is not a complete zip: {_brief(error)}") from error
        file.opening = False
        with archive:
            yield TorchCheckpoint(path, archive)


def as_dict(value: object) -> dict[str, object]:
    """Return the items of a dict in the checkpoint; an empty dict for anything else."""
    held = value.items if isinstance(value, Inert) else value
    return held if isinstance(held, dict) else {}


def damaged(path: Path, reason: str) -> BackboneError:
    """Return the error for a file that cannot be converted."""
    return BackboneError(f"{path} cannot be converted: {reason}; fetch the checkpoint again")


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive that would unpack to more bytes than the file has.

    torch stores its entries without compression, one after the other.
    """
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    stored = all(
        entry.compress_type == zipfile.ZIP_STORED and entry.file_size == entry.compress_size
        for entry in entries
    )
    if not stored or total > path.stat().st_size:
        raise damaged(path, f"its entries declare {total} bytes, which torch does not write")


def _brief(error: Exception) -> str:
    text = printable(error, MAX_SHOWN)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
