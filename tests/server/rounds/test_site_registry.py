from __future__ import annotations

from typing import Any

import pytest

from common.config.run_config import RunConfig
from common.errors import FederationError
from server.rounds.site_registry import SiteRegistry

ANSWER: dict[str, Any] = {
    "patients": 12,
    "windows": 100,
    "source": "mimic3",
    "rule": "sepsis=explicit",
    "step-minutes": 60,
    "backbone-digest": "0" * 64,
    "usable": True,
    "rank": 8,
}


def registry(**settings: Any) -> SiteRegistry:
    return SiteRegistry(RunConfig.parse(settings), "0" * 64)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"usable": False}, "no usable window"),
        ({"backbone-digest": "1" * 64}, "install the same weights"),
        ({"step-minutes": 30}, "its steps are 30 min, the others' 60 min"),
        ({"patients": "many"}, "garbles"),
        ({"patients": None}, "garbles"),
        ({"patients": float("nan")}, "garbles"),
        ({"patients": 10**9, "windows": 10**10}, "1000000000 patients with"),
        ({"patients": 200}, "200 patients with 100 windows is impossible"),
        ({"rank": 4}, "its lora-rank is 4, the run allows 8"),
    ],
)
def test_a_site_that_cannot_take_part_is_refused_with_the_reason(
    change: dict[str, Any], reason: str
) -> None:
    sites = registry()
    sites.admit("micu", 1, ANSWER)
    sites.admit("ccu", 2, ANSWER | change)
    assert sites.names() == ["micu"]
    assert reason in sites.refused["ccu"]


def test_a_site_with_other_steps_than_the_run_s_is_refused() -> None:
    sites = registry(**{"step-minutes": 5})
    sites.admit("micu", 1, ANSWER)
    assert sites.refused == {"micu": "its steps are 60 min, the run's 5 min (step-minutes)"}


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "micu\n[INFO] fine", "../micu", "\x1b[2J"])
def test_a_name_that_could_forge_a_line_is_refused(name: str) -> None:
    sites = registry()
    sites.admit(name, 7, ANSWER)
    assert not sites.members
    assert list(sites.refused) == ["a site of node 7"]


def test_a_site_s_text_becomes_one_bounded_line() -> None:
    sites = registry()
    sites.admit("micu", 1, ANSWER | {"rule": "x\ny" * 1000})
    assert len(sites.members["micu"].rule) == 200
    assert "\n" not in sites.members["micu"].rule


def test_a_name_is_taken_once() -> None:
    sites = registry()
    sites.admit("micu", 1, ANSWER)
    sites.admit("micu", 2, ANSWER)
    assert sites.members["micu"].node_id == 1
    assert "second node" in sites.refused["micu"]


def test_a_site_comes_back_under_a_new_node_once_the_old_one_is_gone() -> None:
    sites = registry()
    sites.admit("micu", 1, ANSWER)
    sites.admit("micu", 2, ANSWER, present={1, 2})
    assert sites.members["micu"].node_id == 1
    sites.admit("micu", 3, ANSWER, present={3})
    assert sites.members["micu"].node_id == 3
    assert not sites.refused


def test_sites_choose_their_rank_within_what_the_run_allows() -> None:
    sites = registry(**{"aggregation.rule": "svd", "lora.rank": 8, "lora.min-rank": 2})
    for place, rank in enumerate((1, 2, 8, 16)):
        sites.admit(f"site{rank}", place, ANSWER | {"rank": rank})
    assert sites.names() == ["site2", "site8"]
    assert "its lora-rank is 16, the run allows 2 to 8" in sites.refused["site16"]


def test_the_three_ways_to_weigh_sites() -> None:
    for settings, expected in (
        ({}, {"a": 12.0, "b": 30.0}),
        ({"federation.weights": "equal"}, {"a": 1.0, "b": 1.0}),
        ({"federation.weights": "a=2,b=0.5"}, {"a": 2.0, "b": 0.5}),
    ):
        sites = registry(**settings)
        sites.admit("a", 1, ANSWER)
        sites.admit("b", 2, ANSWER | {"patients": 30})
        assert sites.weights(["a", "b"]) == expected


def test_a_site_without_counts_joins_where_no_weight_needs_them() -> None:
    kept = {key: value for key, value in ANSWER.items() if key not in ("patients", "windows")}
    sites = registry(**{"privacy.epsilon": 8.0})
    sites.admit("micu", 1, kept)
    assert sites.members["micu"].patients is None
    assert sites.weights(["micu"]) == {"micu": 1.0}
    sites = registry()
    sites.admit("micu", 1, kept)
    assert "it keeps its counts" in sites.refused["micu"]


def test_fixed_weights_name_every_site() -> None:
    sites = registry(**{"federation.weights": "micu=1"})
    sites.admit("ccu", 1, ANSWER)
    assert "names no weight for it" in sites.refused["ccu"]


def test_too_few_sites_are_named_with_their_reasons() -> None:
    sites = registry()
    sites.admit("ccu", 1, ANSWER | {"usable": False})
    with pytest.raises(FederationError, match=r"0 usable sites joined, the run needs 2 .*ccu: no"):
        sites.require(2)
