"""Requests that are malformed: no app is started for them and nothing is charged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common.adapter.serialization.message import encode, record_of
from tests.client.egress.gated_site import GatedSite, Make

Change = Callable[[RecordDict, GatedSite], None]


def array(content: RecordDict) -> Array:
    return content.array_records["adapter"]["adapter"]


def not_finite(content: RecordDict, site: GatedSite) -> None:
    adapter = site.shared_adapter()
    tensors = {
        name: np.full_like(tensor, np.nan) if ".lora_B." in name else tensor
        for name, tensor in adapter.tensors.items()
    }
    data = encode(replace(adapter, tensors=tensors), "float32", site.config.trained)
    content["adapter"] = record_of(data)


def other_array(content: RecordDict, _: GatedSite) -> None:
    given = array(content)
    one = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=given.data)
    content["adapter"] = ArrayRecord({"adapter": one})


def second_array(content: RecordDict, _: GatedSite) -> None:
    content["adapter"] = ArrayRecord({"adapter": array(content), "more": array(content)})


def damaged_residual(content: RecordDict, _: GatedSite) -> None:
    content["carried"] = record_of(b"no adapter")


def unknown_arrays(content: RecordDict, _: GatedSite) -> None:
    content["more"] = ArrayRecord({"adapter": array(content)})


def metrics(content: RecordDict, _: GatedSite) -> None:
    content["privacy"] = MetricRecord({"epsilon": 100.0})


def settings(content: RecordDict, _: GatedSite) -> None:
    content["settings"] = ConfigRecord({"privacy.noise-multiplier": 0.0})


def more_of_the_round(content: RecordDict, _: GatedSite) -> None:
    content["round"] = ConfigRecord({**content.config_records["round"], "epsilon": 100.0})


CHANGES: list[Change] = [
    *(not_finite, other_array, second_array, damaged_residual, unknown_arrays),
    *(metrics, settings, more_of_the_round),
]


@pytest.mark.parametrize("change", CHANGES, ids=[change.__name__ for change in CHANGES])
def test_a_request_that_the_app_could_not_use_is_not_charged(make: Make, change: Change) -> None:
    """Before: the budget was charged, and the app failed or ignored what it does not know."""
    site = make()
    message = site.ask("train")
    change(message.content, site)
    refusal = site.admitted(message)
    assert refusal is not None
    assert refusal.error.reason == "refused by the site's policy: message kind"
    assert [(entry["decision"], entry["reason"]) for entry in site.entries] == [
        ("refused", "question")
    ]


def test_a_residual_is_part_of_a_request(make: Make) -> None:
    site = make()
    message = site.ask("train")
    message.content["carried"] = record_of(encode(site.shared_adapter()))
    assert site.admitted(message) is None
