"""Error feedback: the quantisation error of a site's adapter is added to its next message.

An int8 message is off by up to half a level of each matrix. Kept at the site and added in the next
round, the errors do not accumulate over the rounds (Karimireddy et al., Error Feedback Fixes
SignSGD, arXiv 1901.09847). The error is never sent. It is stored on disk by round, since each round
may be a process of its own and may be requested again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from common.adapter.adapter import Adapter, Matrix
from common.adapter.serialization.message import WireDtype, decode, encode
from common.errors import TrainingError
from common.files.atomic_io import atomic_file
from common.files.private import OWNER_ONLY

ROUNDS_KEPT = 2
"""The last round's error, and the one before in case the last round is requested again."""


def encode_with_feedback(
    adapter: Adapter, dtype: WireDtype, trained: str, folder: Path, round_number: int
) -> bytes:
    """Encode an adapter after adding the last round's rounding error; store the new error.

    Args:
        adapter: the site's adapter.
        dtype: type of the numbers on the wire.
        trained: as in `common.adapter.serialization.message.encode`.
        folder: folder of this site's errors in this run.
        round_number: the round.

    Raises:
        TrainingError: where the folder cannot be written.
    """
    due = _plus(adapter, _read(folder / _name(round_number - 1)))
    data = encode(due, dtype, trained)
    arrived = decode(data, shared=due, require_finite=False)
    error = {name: due.tensors[name] - arrived.tensors[name] for name in due.tensors}
    _write(folder, round_number, error)
    return data


def _plus(adapter: Adapter, error: Mapping[str, Matrix]) -> Adapter:
    """The adapter plus an error; an error of another layout (a changed rank) is ignored."""
    shapes = {name: tensor.shape for name, tensor in adapter.tensors.items()}
    if {name: tensor.shape for name, tensor in error.items()} != shapes:
        return adapter
    tensors = {name: tensor + error[name] for name, tensor in adapter.tensors.items()}
    return replace(adapter, tensors=tensors)


def _read(path: Path) -> dict[str, Matrix]:
    try:
        error = load_file(path)
    except (OSError, SafetensorError):
        return {}  # the first round, or the one after a round that this site missed
    return {name: tensor for name, tensor in error.items() if np.isfinite(tensor).all()}


def _write(folder: Path, round_number: int, error: Mapping[str, Matrix]) -> None:
    try:
        with atomic_file(folder / _name(round_number), OWNER_ONLY) as partial:
            partial.write_bytes(save(dict(error)))
        for path in sorted(folder.glob(_name("*")))[:-ROUNDS_KEPT]:
            path.unlink(missing_ok=True)
    except OSError as error_:
        raise TrainingError(
            f"the site's state cannot be written to {folder} ({error_.strerror or error_}); "
            "free space, or set state-path to another folder"
        ) from error_


def _name(round_number: int | str) -> str:
    number = f"{round_number:06d}" if isinstance(round_number, int) else round_number
    return f"rounding-error-{number}.safetensors"
