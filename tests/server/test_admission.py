from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from common.adapter import Adapter, tensor_name
from server.admission import RefusedError, check_adapter, check_report, printable
from server.sites import Member, Membership

GOOD: dict[str, Any] = {
    "patients": 12,
    "windows": 100,
    "steps": 5,
    "loss": 0.5,
    "validation.wql": 0.1,
    "seconds.training": 1.5,
}


def make_adapter(value: float = 1.0, **changes: Any) -> Adapter:
    tensors = {
        tensor_name("q", "A"): np.full((2, 3), value, np.float32),
        tensor_name("q", "B"): np.full((4, 2), value, np.float32),
    }
    settings: dict[str, Any] = {
        "rank": 2,
        "alpha": 4.0,
        "target_modules": "q",
        "backbone": "b",
        "backbone_digest": "0" * 64,
    }
    return Adapter(**({"tensors": tensors} | settings | changes))


MEMBER = Member("micu", 1, 12, 100, "mimic3", "all", 60)


def test_a_good_report_is_read() -> None:
    report = check_report(GOOD, MEMBER)
    assert (report.patients, report.windows, report.steps, report.loss) == (12, 100, 5, 0.5)
    assert report.validation == {"wql": 0.1}
    assert report.seconds == {"training": 1.5}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"patients": 0}, "it reports 0 patients, 12 when it joined"),
        ({"patients": 10**9}, "it reports 1000000000 patients, 12 when it joined"),
        ({"validation.name": 1.0}, "holds validation.name, which nobody asked for"),
        ({"seconds.\x1b[2J": 1.0}, "holds seconds.\\?"),
        ({"loss": float("nan")}, "the value of loss is not a finite number"),
        ({"validation.wql": float("inf")}, "validation.wql is not a finite number"),
        ({"validation.wql": [0.1]}, "validation.wql is not a finite number"),
    ],
)
def test_an_impossible_report_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        check_report(GOOD | change, MEMBER)


@pytest.mark.parametrize("name", ["patients", "windows", "steps", "loss"])
def test_an_incomplete_report_is_refused(name: str) -> None:
    with pytest.raises(RefusedError, match=f"lacks {name}"):
        check_report({key: value for key, value in GOOD.items() if key != name}, MEMBER)


def test_adapters_that_cannot_be_averaged_are_refused() -> None:
    reference = make_adapter()
    check_adapter(make_adapter(2.0), reference, "micu")
    with pytest.raises(RefusedError, match="site 'micu' sent alpha 8"):
        check_adapter(replace(reference, alpha=8.0), reference, "micu")
    with pytest.raises(RefusedError, match="backbone"):
        check_adapter(replace(reference, backbone_digest="1" * 64), reference, "micu")
    with pytest.raises(RefusedError, match="NaN or infinity in"):
        check_adapter(make_adapter(float("nan")), reference, "micu")


ANSWER: dict[str, Any] = {
    "patients": 12,
    "windows": 100,
    "source": "mimic3",
    "rule": "sepsis=explicit",
    "step-minutes": 60,
    "backbone-digest": "0" * 64,
}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"windows": 0}, "no usable window"),
        ({"backbone-digest": "1" * 64}, "install the same weights"),
        ({"step-minutes": 30}, "its steps are 30 min, the others' 60 min"),
        ({"patients": "many"}, "garbles"),
        ({"patients": None}, "garbles"),
    ],
)
def test_a_site_that_cannot_take_part_is_told_why(change: dict[str, Any], reason: str) -> None:
    membership = Membership("0" * 64)
    membership.admit("micu", 1, ANSWER)
    membership.admit("ccu", 2, ANSWER | change)
    assert membership.names() == ["micu"]
    assert reason in membership.refused["ccu"]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "micu\n[INFO] fine", "../micu", "\x1b[2J"])
def test_a_name_that_could_forge_a_line_is_turned_away(name: str) -> None:
    membership = Membership("0" * 64)
    membership.admit(name, 7, ANSWER)
    assert not membership.members
    assert list(membership.refused) == ["a site of node 7"]


def test_a_site_s_text_becomes_one_bounded_line() -> None:
    assert printable("fine\n[INFO] forged\x1b[2J") == "fine?[INFO] forged?[2J"
    assert len(printable("x" * 10_000)) == 200
    membership = Membership("0" * 64)
    membership.admit("micu", 1, ANSWER | {"rule": "x\ny" * 1000})
    assert len(membership.members["micu"].rule) == 200
    assert "\n" not in membership.members["micu"].rule


def test_a_name_is_taken_once() -> None:
    membership = Membership("0" * 64)
    membership.admit("micu", 1, ANSWER)
    membership.admit("micu", 2, ANSWER)
    assert membership.members["micu"].node_id == 1
    assert "second node" in membership.refused["micu"]
