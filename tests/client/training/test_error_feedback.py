from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.training.error_feedback import ROUNDS_KEPT, encode_with_feedback
from common.adapter.adapter import Adapter, tensor_name
from common.adapter.serialization.message import decode, encode
from common.errors import TrainingError

SETTINGS: dict[str, Any] = {
    "alpha": 4.0,
    "target_modules": "q",
    "backbone": "b",
    "backbone_digest": "0" * 64,
}


def adapter(seed: int = 0, rank: int = 2) -> Adapter:
    random = np.random.default_rng(seed)
    tensors = {
        tensor_name("q", "A"): random.normal(size=(rank, 5)).astype(np.float32),
        tensor_name("q", "B"): random.normal(size=(4, rank)).astype(np.float32),
    }
    return Adapter(tensors, rank=rank, **SETTINGS)


def mean_error(arrived: list[Adapter], true: Adapter) -> float:
    name = tensor_name("q", "A")
    mean = np.mean([one.tensors[name] for one in arrived], axis=0, dtype=np.float64)
    return float(np.abs(mean - true.tensors[name]).max())


def test_the_errors_do_not_add_up_over_the_rounds(tmp_path: Path) -> None:
    true = adapter()
    fed = [
        decode(encode_with_feedback(true, "int8", "ab", tmp_path, number))
        for number in range(1, 101)
    ]
    plain = [decode(encode(true, "int8"))] * 100
    level = np.abs(true.tensors[tensor_name("q", "A")]).max() / 127
    # What is sent on average is exact but for the one error that is still kept.
    assert mean_error(fed, true) < 0.02 * level
    assert mean_error(plain, true) > 0.1 * level


def test_a_round_requested_again_gives_the_same_bytes(tmp_path: Path) -> None:
    encode_with_feedback(adapter(), "int8", "ab", tmp_path, 1)
    first = encode_with_feedback(adapter(1), "int8", "ab", tmp_path, 2)
    assert encode_with_feedback(adapter(1), "int8", "ab", tmp_path, 2) == first
    assert encode_with_feedback(adapter(1), "int8", "ab", tmp_path / "fresh", 2) != first


def test_no_more_rounds_are_kept_than_are_needed(tmp_path: Path) -> None:
    for number in range(1, 12):
        encode_with_feedback(adapter(number), "int8", "ab", tmp_path, number)
    assert len(list(tmp_path.iterdir())) == ROUNDS_KEPT


def test_an_error_of_another_layout_is_ignored(tmp_path: Path) -> None:
    encode_with_feedback(adapter(rank=2), "int8", "ab", tmp_path, 1)
    sent = encode_with_feedback(adapter(rank=1), "int8", "ab", tmp_path, 2)
    assert sent == encode(adapter(rank=1), "int8")


def test_with_b_alone_the_shared_a_is_untouched(tmp_path: Path) -> None:
    true = adapter()
    for number in range(1, 4):
        sent = encode_with_feedback(true, "int8", "b", tmp_path, number)
        arrived = decode(sent, shared=true)
        assert arrived.a_digest() == true.a_digest()


def test_a_damaged_file_is_ignored_and_an_unwritable_folder_is_named(
    tmp_path: Path,
) -> None:
    encode_with_feedback(adapter(), "int8", "ab", tmp_path, 1)
    next(tmp_path.iterdir()).write_bytes(b"cut off")
    sent = encode_with_feedback(adapter(1), "int8", "ab", tmp_path, 2)
    assert sent == encode(adapter(1), "int8")
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="set state-path to another folder"):
        encode_with_feedback(adapter(), "int8", "ab", tmp_path / "file", 1)
