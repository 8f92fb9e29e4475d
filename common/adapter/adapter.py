"""The LoRA adapter: named pairs of matrices A [r, in] and B [out, r], in plain numpy.

A layer of the frozen backbone computes ``W x``; with its pair it computes
``W x + (alpha / r) B A x`` (Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, 2021,
section 4.1). A pair is valid only with its alpha and with the weights W that it was trained on:
both are part of the adapter. `common.adapter.peft_io` converts it to and from PEFT,
`common.adapter.serialization.message` to and from Flower messages.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import AdapterError

Matrix = npt.NDArray[np.float32]

MAX_NAME_LENGTH = 256
MAX_TEXT_LENGTH = 4096
_NAME = re.compile(r"base_model\.model\.([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.lora_([AB])\.weight")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 120


def tensor_name(module: str, factor: str) -> str:
    """PEFT's name for one matrix.

    Args:
        module: the adapted layer's name in the backbone, e.g. ``encoder.block.0.layer.0.q``.
        factor: ``"A"`` or ``"B"``.
    """
    return f"base_model.model.{module}.lora_{factor}.weight"


@dataclass(frozen=True, eq=False)
class Adapter:
    """One LoRA adapter, validated on construction and immutable.

    `target_modules` is compared and passed on, never matched here: an adapter may come from an
    untrusted sender, and a regular expression may take exponential time.

    Attributes:
        tensors: by PEFT's name, in sorted order: ``….lora_A.weight`` [rank, in] and
            ``….lora_B.weight`` [out, rank]. Read-only arrays are kept, others are copied.
        rank: the inner dimension of every pair.
        alpha: numerator of the scale; ``B @ A`` is multiplied by ``alpha / rank``.
        target_modules: LoraConfig's regular expression (full match).
        backbone: the name of the frozen model, e.g. ``chronos-bolt-nano``.
        backbone_digest: SHA-256 over names and bytes of the frozen tensors, in hexadecimal.
        dropout: the probability that training drops an input of A.

    Raises:
        AdapterError: where a pair is incomplete, a matrix is not float32 or not of that rank, a
            name is not one of PEFT's LoRA names, or a setting is out of its range.
    """

    tensors: Mapping[str, Matrix]
    rank: int
    alpha: float
    target_modules: str
    backbone: str
    backbone_digest: str
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_settings(self)
        object.__setattr__(self, "alpha", float(self.alpha))
        object.__setattr__(self, "dropout", float(self.dropout))
        object.__setattr__(self, "tensors", MappingProxyType(_checked(self.tensors, self.rank)))

    def __eq__(self, other: object) -> bool:
        """Compare settings, names and bits: a NaN equals itself, 0.0 differs from -0.0."""
        if not isinstance(other, Adapter):
            return NotImplemented
        return self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    @property
    def scaling(self) -> float:
        """The factor of ``B @ A``."""
        return self.alpha / self.rank

    @property
    def modules(self) -> tuple[str, ...]:
        """The adapted layers by name, sorted."""
        names = (_NAME.fullmatch(name) for name in self.tensors)
        return tuple(sorted({match[1] for match in names if match is not None}))

    def pair(self, module: str) -> tuple[Matrix, Matrix]:
        """The matrices of one layer: A [rank, in] and B [out, rank].

        Raises:
            AdapterError: where the adapter has no such layer.
        """
        try:
            return self.tensors[tensor_name(module, "A")], self.tensors[tensor_name(module, "B")]
        except KeyError:
            raise AdapterError(
                f"the adapter has no layer {shown(module)}; it has {len(self.modules)}, "
                f"the first is {self.modules[0]}"
            ) from None

    @property
    def num_parameters(self) -> int:
        """Numbers in all matrices together."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices together, as float32."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def first_nonfinite(self) -> str | None:
        """Name of the first matrix with a NaN or an infinity, or None."""
        for name, tensor in self.tensors.items():
            if not np.isfinite(tensor).all():
                return name
        return None

    def is_finite(self) -> bool:
        """Return True where every number is finite."""
        return self.first_nonfinite() is None

    def norm(self) -> float:
        """The Euclidean norm of all numbers together, summed in float64."""
        squares = (np.square(tensor, dtype=np.float64).sum() for tensor in self.tensors.values())
        return math.sqrt(sum(float(square) for square in squares))

    def distance(self, other: Adapter) -> float:
        """The Euclidean norm of the difference to an adapter of the same layout, in float64."""
        squares = (
            np.square(tensor.astype(np.float64) - other.tensors[name]).sum()
            for name, tensor in self.tensors.items()
        )
        return math.sqrt(sum(float(square) for square in squares))

    def digest(self) -> str:
        """SHA-256 over settings, names, shapes and bytes; equal adapters have equal digests."""
        settings = {
            "alpha": self.alpha,
            "backbone": self.backbone,
            "backbone_digest": self.backbone_digest,
            "dropout": self.dropout,
            "rank": self.rank,
            "target_modules": self.target_modules,
            "tensors": [(name, tensor.shape) for name, tensor in self.tensors.items()],
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for tensor in self.tensors.values():
            digest.update(tensor.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def a_digest(self) -> str:
        """SHA-256 over names, shapes and bytes of every A; identifies a shared A."""
        digest = hashlib.sha256()
        for name, tensor in self.tensors.items():
            if ".lora_A." in name:
                digest.update(f"{name} {tensor.shape}\n".encode())
                digest.update(tensor.astype("<f4", copy=False).tobytes())
        return digest.hexdigest()

    def check_compatible(self, reference: Adapter, sender: str = "the sender") -> None:
        """Check that this adapter can be averaged with, or loaded in place of, another one.

        Dropout and the backbone's name may differ: neither changes the meaning of the matrices.

        Args:
            reference: the run's adapter.
            sender: owner of this adapter in error messages, e.g. ``site 'micu'``.

        Raises:
            AdapterError: naming the first difference and its remedy.
        """
        if self.backbone_digest != reference.backbone_digest:
            raise AdapterError(
                f"{sender} sent an adapter for backbone {self.backbone} "
                f"({self.backbone_digest[:12]}), the run uses {reference.backbone} "
                f"({reference.backbone_digest[:12]}); install the run's backbone weights there"
            )
        for label, mine, theirs in (
            ("rank", self.rank, reference.rank),
            ("alpha", self.alpha, reference.alpha),
            ("target modules", self.target_modules, reference.target_modules),
        ):
            if mine != theirs:
                raise AdapterError(
                    f"{sender} sent {label} {shown(mine)} for {self.modules[0]}, the run uses "
                    f"{shown(theirs)}; train with the LoRA settings that the run sends"
                )
        check_same_layout(self.tensors, reference.tensors, sender, "the run")


def _check_settings(adapter: Adapter) -> None:
    for label, text in (
        ("target_modules", adapter.target_modules),
        ("backbone", adapter.backbone),
    ):
        if not (isinstance(text, str) and 0 < len(text) <= MAX_TEXT_LENGTH and text.isprintable()):
            raise AdapterError(
                f"an adapter's {label} must be printable text of 1 to {MAX_TEXT_LENGTH} "
                f"characters, got {shown(text)}"
            )
    if type(adapter.rank) is not int or adapter.rank < 1:
        raise AdapterError(f"an adapter's rank must be an integer >= 1, got {shown(adapter.rank)}")
    if not (_is_number(adapter.alpha) and 0 < adapter.alpha < math.inf):
        raise AdapterError(f"an adapter's alpha must be above 0, got {shown(adapter.alpha)}")
    if not (_is_number(adapter.dropout) and 0 <= adapter.dropout < 1):
        raise AdapterError(
            f"an adapter's dropout must be at least 0 and below 1, got {shown(adapter.dropout)}"
        )
    digest = adapter.backbone_digest
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise AdapterError(
            f"a backbone digest is 64 lower-case hexadecimal digits, got {shown(digest)}"
        )


def _checked(tensors: Mapping[str, Matrix], rank: int) -> dict[str, Matrix]:
    """Check complete pairs of one rank; return them sorted by name, read-only, C-contiguous."""
    if not tensors:
        raise AdapterError("an adapter needs at least one pair of matrices, got none")
    checked = {}
    for name in sorted(tensors):
        match = _NAME.fullmatch(name) if len(name) <= MAX_NAME_LENGTH else None
        if match is None:
            raise AdapterError(
                f"tensor {shown(name)} is not a LoRA matrix; expected names such as "
                f"{tensor_name('<module>', 'A')}"
            )
        if tensor_name(match[1], "B" if match[2] == "A" else "A") not in tensors:
            raise AdapterError(f"tensor {shown(name)} lacks the other matrix of its pair")
        checked[name] = _checked_matrix(shown(name), tensors[name], rank, match[2])
    return checked


def _checked_matrix(label: str, tensor: Matrix, rank: int, factor: str) -> Matrix:
    if not isinstance(tensor, np.ndarray) or tensor.dtype != np.float32:
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise AdapterError(f"tensor {label} is {kind}, expected float32")
    if tensor.ndim != 2 or 0 in tensor.shape or tensor.shape[0 if factor == "A" else 1] != rank:
        expected = f"[{rank}, in]" if factor == "A" else f"[out, {rank}]"
        raise AdapterError(f"tensor {label} has shape {list(tensor.shape)}, expected {expected}")
    if tensor.flags.writeable or not tensor.flags.c_contiguous:
        tensor = np.array(tensor, order="C")
        tensor.flags.writeable = False
    return tensor


def check_same_layout(
    tensors: Mapping[str, Matrix], reference: Mapping[str, Any], sender: str, owner: str
) -> None:
    """Check that two sets of matrices have the same names and shapes.

    Args:
        tensors: the matrices to check.
        reference: anything with `shape` by name, e.g. numpy arrays or torch tensors.
        sender: owner of `tensors` in error messages.
        owner: owner of `reference` in error messages.

    Raises:
        AdapterError: naming the first difference.
    """
    for name in sorted(tensors.keys() ^ reference.keys()):
        has, lacks = (sender, owner) if name in tensors else (owner, sender)
        raise AdapterError(
            f"{has} has {shown(name)}, {lacks} has not; use the same backbone and target modules"
        )
    for name, tensor in tensors.items():
        if tensor.shape != tuple(reference[name].shape):
            raise AdapterError(
                f"{sender} has shape {list(tensor.shape)} for {shown(name)}, "
                f"{owner} has {list(reference[name].shape)}; use the same backbone"
            )


def _is_number(value: object) -> bool:
    """Return True for a float, or an integer that a float represents exactly."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**53)


def shown(value: object) -> str:
    """Return a shortened `repr` for a message: a value from the wire may be long or deep."""
    return _BRIEF.repr(value)
