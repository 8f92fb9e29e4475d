"""Attacks on the statistics before the first round: forged requests, forged replies, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from client.app.client_app import app
from common.config.run_config import RunConfig
from common.data.statistics.reply import parse_site_statistics
from tests.attacks.statistics_site import ASKED, EXACT, opened, question, refused, text_of
from tests.client.egress.gated_site import OPEN, Make, objects


def test_an_honest_request_is_answered_by_the_node(make: Make) -> None:
    site = opened(make)
    found = parse_site_statistics(text_of(site.admitted(question(site))))
    assert found["source"] == "synthetic"
    assert found["age"] == "not recorded"
    counted, sent = site.entries[-2:]
    assert (counted["decision"], sent["decision"]) == ("reserved", "sent")
    assert counted["statistics"] == sent["statistics"]
    assert sent["message"], "the line is there before the message"
    # Exact counts are no part of a guarantee, and a later budget is told so.
    assert counted["privacy"] == {}


def test_without_its_section_the_policy_refuses(make: Make) -> None:
    site = opened(make, OPEN)
    assert refused(site) == "refused by the site's policy: statistics"


@pytest.mark.parametrize("kind", ["train", "evaluate", "query.more"])
def test_a_run_of_statistics_has_no_other_message(make: Make, kind: str) -> None:
    site = opened(make)
    message = site.ask("train")
    message.metadata.__dict__["_message_type"] = kind
    assert refused(site, message) == "refused by the site's policy: message kind"
    assert len(site.entries) == 1, "nothing is counted or reserved"


@pytest.mark.parametrize(
    "records",
    [
        {"round": ConfigRecord({"site": "micu", "round": 1, "run": "ab12"})},
        {"round": ConfigRecord({})},
        {"edges": ConfigRecord({"heart_rate": [88.0, 88.5]})},
        {"patients": MetricRecord({"from": 1})},
        {"adapter": ArrayRecord()},
        {"statistics": ConfigRecord({"json": "{}"})},
    ],
)
def test_a_request_has_no_parameter(make: Make, records: dict[str, Any]) -> None:
    site = opened(make)
    told = refused(site, question(site, **records))
    assert told == "refused by the site's policy: message kind"


@pytest.mark.parametrize(
    "settings",
    [
        {"windows.vitals": "heart_rate"},
        {"privacy.noise-seed": 3, "privacy.epsilon": 1.0},
        {"seed": 7},
        {"data": "/etc"},
        {"rounds": 1},
    ],
)
def test_no_setting_of_the_run_changes_what_is_counted(
    make: Make, settings: dict[str, Any]
) -> None:
    site = opened(make)
    site.config = RunConfig.parse({**ASKED, **settings})
    assert refused(site).startswith("refused by the site's policy")
    assert "is set, in a run of statistics" in site.last["detail"]


def test_an_unapproved_bundle_gets_nothing(make: Make) -> None:
    site = opened(make)
    assert "not approved" in refused(site, bundle="cd" * 32)


def test_a_training_run_gets_no_statistics_and_a_statistics_run_no_join(make: Make) -> None:
    site = opened(make)
    site.config = RunConfig.parse({})
    assert refused(site)  # the site has another backbone
    own = make(policy=EXACT, **{"privacy.noise-multiplier": 0.0, "privacy.sample-rate": 1.0})
    assert own.admitted(own.ask("query")) is None, "the app answers; it has no statistics"


def test_an_app_neither_answers_nor_sends_statistics(make: Make) -> None:
    site = opened(make)
    text = text_of(site.admitted(question(site)))
    request = question(site)
    forged = Message(RecordDict({"statistics": ConfigRecord({"json": text})}), reply_to=request)
    for config in (site.config, make(policy=EXACT).config):
        site.config = config
        tree, contents = objects(forged)
        sent = site.gate.filter_reply(site.request(request), forged, tree, contents.__getitem__)
        assert sent is not None
        assert sent.has_error()
        assert text not in str(sent)


def test_this_release_s_app_takes_no_part(make: Make, tmp_path: Path) -> None:
    from flwr.app import Context

    site = opened(make)
    node: dict[str, bool | float | int | str] = {
        "data-path": str(site.table),
        "site-id": "micu",
        "state-path": str(tmp_path / "app"),
    }
    answer = app(site.ask("query"), Context(1, 2, node, RecordDict(), dict(site.config.flat())))
    assert answer.has_error()
