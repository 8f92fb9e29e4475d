from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.adapter.adapter import Adapter, Matrix, tensor_name
from common.errors import AdapterError

DIGEST = "0123456789abcdef" * 4


def matrices(rank: int = 2, modules: Mapping[str, tuple[int, int]] | None = None) -> dict[str, Any]:
    """Random pairs for layers given by name with their (in, out)."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Any] = {}
    for module, (inputs, outputs) in (modules or {"enc.0.q": (3, 5), "enc.0.o": (5, 3)}).items():
        tensors[tensor_name(module, "B")] = rng.normal(size=(outputs, rank)).astype(np.float32)
        tensors[tensor_name(module, "A")] = rng.normal(size=(rank, inputs)).astype(np.float32)
    return tensors


def make(tensors: Mapping[str, Matrix] | None = None, **settings: Any) -> Adapter:
    values: dict[str, Any] = {
        "rank": 2,
        "alpha": 4.0,
        "target_modules": r".*\.(q|o)",
        "backbone": "nano",
        "backbone_digest": DIGEST,
        **settings,
    }
    return Adapter(matrices(values["rank"]) if tensors is None else tensors, **values)


def test_properties() -> None:
    tensors = matrices()
    adapter = make(tensors)
    assert list(adapter.tensors) == sorted(tensors)
    assert adapter.modules == ("enc.0.o", "enc.0.q")
    a, b = adapter.pair("enc.0.q")
    assert (a.shape, b.shape) == ((2, 3), (5, 2))
    np.testing.assert_array_equal(a, tensors[tensor_name("enc.0.q", "A")])
    assert adapter.scaling == 2.0
    assert adapter.num_parameters == 2 * (3 + 5) * 2
    assert adapter.nbytes == 4 * adapter.num_parameters
    flat = np.concatenate([tensor.ravel() for tensor in tensors.values()]).astype(np.float64)
    assert adapter.norm() == pytest.approx(np.linalg.norm(flat), rel=1e-12)
    with pytest.raises(AdapterError, match=r"no layer 'enc\.9\.q'"):
        adapter.pair("enc.9.q")


def test_an_adapter_is_immutable() -> None:
    tensors = matrices()
    adapter = make(tensors)
    before = adapter.digest()
    for tensor in tensors.values():
        tensor += 1
    assert adapter.digest() == before
    with pytest.raises(ValueError, match="read-only"):
        adapter.tensors[tensor_name("enc.0.q", "A")][0, 0] = 1
    with pytest.raises(TypeError):
        adapter.tensors["x"] = np.zeros((1, 1), np.float32)  # type: ignore[index]


def test_a_transposed_view_keeps_its_values() -> None:
    tensors = matrices()
    name = tensor_name("enc.0.q", "A")
    values = tensors[name].copy()
    tensors[name] = np.asfortranarray(values)
    adapter = make(tensors)
    np.testing.assert_array_equal(adapter.tensors[name], values)
    assert adapter == make()
    tensors[name].flags.writeable = False  # not copied for being writable, then
    assert make(tensors).tensors[name].flags.c_contiguous


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha": 8.0},
        {"target_modules": ".*"},
        {"backbone": "mini"},
        {"backbone_digest": "f" * 64},
        {"dropout": 0.1},
    ],
)
def test_settings_are_part_of_the_digest(settings: dict[str, Any]) -> None:
    assert make() == make()
    assert hash(make()) == hash(make())
    assert make(**settings) != make()


def test_names_and_bits_are_part_of_the_digest() -> None:
    base = make()
    tensors = {name: tensor.copy() for name, tensor in base.tensors.items()}
    first = next(iter(tensors.values()))
    first[0, 0] = 0.0
    positive = make(tensors)
    first[0, 0] = -0.0
    assert make(tensors) != positive
    first[0, 0] = math.nan
    assert make(tensors) == make(tensors)
    renamed = {name.replace("enc", "dec"): tensor for name, tensor in base.tensors.items()}
    assert make(renamed) != base
    assert base != "an adapter"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_matrix_that_is_not_finite_is_named(value: float) -> None:
    tensors = matrices()
    assert make(tensors).is_finite()
    name = tensor_name("enc.0.q", "B")
    tensors[name][4, 1] = value
    assert not make(tensors).is_finite()
    assert make(tensors).first_nonfinite() == name


A, B = tensor_name("enc.0.q", "A"), tensor_name("enc.0.q", "B")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({A: None}, "lacks the other matrix"),
        ({B: None}, "lacks the other matrix"),
        ({A: np.zeros((2, 3))}, "is float64, expected float32"),
        ({A: np.zeros((2, 3), np.int32)}, "is int32, expected float32"),
        ({A: [[0.0, 0.0]]}, "is list, expected float32"),
        ({A: np.zeros((3, 3), np.float32)}, r"shape \[3, 3\], expected \[2, in\]"),
        ({B: np.zeros((2, 5), np.float32)}, r"shape \[2, 5\], expected \[out, 2\]"),
        ({A: np.zeros(2, np.float32)}, r"shape \[2\]"),
        ({A: np.zeros((2, 0), np.float32)}, r"shape \[2, 0\]"),
        ({"encoder.weight": np.zeros((2, 2), np.float32)}, "is not a LoRA matrix"),
        ({f"{A}\n": np.zeros((2, 3), np.float32)}, "is not a LoRA matrix"),
        ({tensor_name("q" * 300, "A"): np.zeros((2, 3), np.float32)}, "is not a LoRA matrix"),
        ({tensor_name("enc..q", "A"): np.zeros((2, 3), np.float32)}, "is not a LoRA matrix"),
    ],
)
def test_broken_matrices_are_refused(change: dict[str, Any], message: str) -> None:
    tensors = {**matrices(), **change}
    with pytest.raises(AdapterError, match=message):
        make({name: tensor for name, tensor in tensors.items() if tensor is not None})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be an integer >= 1, got 0"),
        ({"rank": True}, "rank"),
        ({"rank": 2.0}, "rank"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"alpha": math.nan}, "alpha"),
        ({"alpha": math.inf}, "alpha"),
        ({"alpha": 10**400}, "alpha"),
        ({"alpha": "16"}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"target_modules": ""}, "target_modules"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": "a\nb"}, "target_modules"),
        ({"backbone": "x" * 5000}, "backbone"),
        ({"backbone_digest": "F" * 64}, "64 lower-case hexadecimal"),
        ({"backbone_digest": "f" * 63}, "64 lower-case hexadecimal"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        make(matrices(), **settings)


def test_no_pair_at_all_is_refused() -> None:
    with pytest.raises(AdapterError, match="at least one pair"):
        make({})


def test_equal_adapters_and_another_dropout_are_compatible() -> None:
    make(dropout=0.3, backbone="a/local/copy").check_compatible(make())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (make(backbone_digest="f" * 64), r"for backbone nano \(ffffffffffff\), the run uses nano"),
        (make(rank=8), "sent rank 8 for enc.0.o, the run uses 2"),
        (make(alpha=16.0), "sent alpha 16.0 for enc.0.o, the run uses 4.0"),
        (make(alpha=4.0000001), "sent alpha 4.0000001 for"),
        (make(target_modules=".*q"), r"sent target modules '\.\*q'"),
        (make(matrices(2, {"enc.0.q": (3, 5)})), r"the run has .*enc\.0\.o\.lora_A.* site 'ccu' "),
        (
            make(matrices(2, {"enc.0.q": (3, 5), "enc.0.o": (5, 3), "x": (1, 1)})),
            "site 'ccu' has .*x.lora_A.*the run has not",
        ),
        (
            make(matrices(2, {"enc.0.q": (4, 5), "enc.0.o": (5, 3)})),
            r"shape \[2, 4\] for .*enc\.0\.q\.lora_A.*, the run has \[2, 3\]",
        ),
    ],
)
def test_the_first_difference_is_named(other: Adapter, message: str) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        other.check_compatible(make(), "site 'ccu'")
    assert "site 'ccu'" in str(caught.value)


def test_patterns_that_differ_beyond_what_a_message_shows_are_different() -> None:
    patterns = [f"{'a' * 200}{middle}{'b' * 200}" for middle in "xy"]
    with pytest.raises(AdapterError, match="sent target modules"):
        make(target_modules=patterns[0]).check_compatible(make(target_modules=patterns[1]))


def test_a_different_alpha_changes_the_scaling() -> None:
    assert replace(make(), alpha=1.0).scaling == 0.5


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, common.adapter.adapter, common.adapter.peft_io\n"
        "import common.adapter.serialization.message\n"
        "print(sorted({'torch', 'peft', 'flwr'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
