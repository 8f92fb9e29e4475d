"""Attacks on the statistics before the first round: forged requests, repetition, differences."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from client.app.client_app import app
from client.egress.audit.audit_log import AuditLog
from client.egress.gate import Gate
from client.node.statistics.answers import StatisticsAnswers
from client.policy.policy import PolicyFile
from client.policy.refusal import REFUSED
from common.config.run_config import RunConfig
from common.data.site_table import SiteTable, read_site_table, write_site_table
from common.data.statistics.reply import parse_site_statistics
from common.errors import AuditError
from tests.client.egress.gated_site import OPEN, POLICY, GatedSite, Make, objects

RULES = "\n[statistics]\nleast-count = 5\nper-days = 30\n"
MORE = ("joins-per-day = 3", "joins-per-day = 6")
EXACT = OPEN.replace(*MORE) + RULES
NOISY = POLICY.replace(*MORE) + RULES + "epsilon = 0.5\n"

ASKED = {"statistics": True}


def opened(make: Make, policy: str = EXACT) -> GatedSite:
    """Return a site whose policy lets statistics out, asked by a run of statistics."""
    site = make(policy=policy)
    site.config = RunConfig.parse(ASKED)
    return site


def question(site: GatedSite, **records: Any) -> Message:
    """Return the server's request, with records that an honest one does not have."""
    message = site.ask("query")
    for name, record in records.items():
        message.content[name] = record
    return message


def text_of(answer: Message | None) -> str:
    """Return the text that leaves."""
    assert answer is not None
    assert not answer.has_error(), answer.error
    assert dict(answer.content).keys() == {"statistics"}
    return str(answer.content.config_records["statistics"]["json"])


def refused(site: GatedSite, message: Message | None = None, bundle: str = "") -> str:
    """Return what the coordinator reads of a refusal; nothing else may leave."""
    given = question(site) if message is None else message
    answer = site.admitted(given, bundle) if bundle else site.admitted(given)
    assert answer is not None
    assert answer.has_error()
    assert site.last["decision"] == "refused"
    return str(answer.error.reason)


def without_patients(site: GatedSite, folder: Path, number: int = 1) -> None:
    """Let the site export its table anew, without its first patients."""
    whole = read_site_table(site.table)
    ids = whole.frame["patient_id"].unique()
    rest = whole.frame[~whole.frame["patient_id"].isin(ids[:number])].reset_index(drop=True)
    site.table = folder / f"new-{number}.parquet"
    write_site_table(SiteTable(rest, whole.info), site.table)


def at(site: GatedSite, days: float) -> None:
    """Restart the site's node some days later."""
    later = datetime.now(UTC) + timedelta(days=days)
    answers = StatisticsAnswers(site.table, site.folder / "state", lambda: later)
    policy = PolicyFile(site.folder / "policy.toml")
    site.gate = Gate(site.site, policy.current, AuditLog(site.log), answers)


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


@pytest.mark.parametrize("policy", [EXACT, NOISY])
def test_repetition_gets_the_same_bytes_also_after_a_restart(make: Make, policy: str) -> None:
    site = opened(make, policy)
    first = text_of(site.admitted(question(site)))
    spent = [entry for entry in site.entries if entry["decision"] == "reserved"]
    site.reopened()
    assert text_of(site.admitted(question(site))) == first
    again = [entry for entry in site.entries if entry["decision"] == "reserved"]
    assert again == spent, "the same bytes cost nothing"


@pytest.mark.parametrize("policy", [EXACT, NOISY])
def test_two_exports_that_differ_by_a_patient_give_one_answer(
    make: Make, policy: str, tmp_path: Path
) -> None:
    """Differencing: the coordinator asks before and after a patient is admitted."""
    site = opened(make, policy)
    first = text_of(site.admitted(question(site)))
    without_patients(site, tmp_path)
    site.reopened()
    assert text_of(site.admitted(question(site))) == first
    at(site, 29.9)
    assert text_of(site.admitted(question(site))) == first
    at(site, 30.1)
    # Exact counts of 24 and 23 patients would differ by those of one, however late.
    assert (text_of(site.admitted(question(site))) == first) is (policy == EXACT)


def test_exact_counts_are_told_anew_when_enough_patients_have_come_or_gone(
    make: Make, tmp_path: Path
) -> None:
    site = opened(make)
    first = text_of(site.admitted(question(site)))
    without_patients(site, tmp_path, 4)
    at(site, 31)
    assert text_of(site.admitted(question(site))) == first
    without_patients(site, tmp_path, 1)
    at(site, 31)
    found = parse_site_statistics(text_of(site.admitted(question(site))))
    assert found["patients"] == parse_site_statistics(first)["patients"] - 5


def test_noisy_bytes_do_not_tell_whether_the_table_has_changed(make: Make, tmp_path: Path) -> None:
    """Fresh noise for a changed table alone would tell with certainty that a patient was added."""
    site = opened(make, NOISY)
    first = text_of(site.admitted(question(site)))
    at(site, 31)
    again = text_of(site.admitted(question(site)))
    assert again != first, "the same table, counted and paid anew"
    assert len([entry for entry in site.entries if entry["decision"] == "reserved"]) == 2
    # Until then the table is not even looked at: neither the reply nor its time depends on it.
    site.table = tmp_path / "none.parquet"
    site.reopened()
    assert text_of(site.admitted(question(site))) == again


def test_a_clock_that_is_set_back_counts_nothing_anew(make: Make, tmp_path: Path) -> None:
    site = opened(make)
    first = text_of(site.admitted(question(site)))
    without_patients(site, tmp_path)
    at(site, -400)
    assert text_of(site.admitted(question(site))) == first


def test_two_thresholds_give_no_two_views_of_a_table(make: Make, tmp_path: Path) -> None:
    """See `test_two_thresholds_together_give_a_small_count_away` of the suppression."""
    site = opened(make)
    text_of(site.admitted(question(site)))
    site.change_policy("least-count = 5", "least-count = 7")
    assert refused(site) == "refused by the site's policy"
    at(site, 31)
    assert refused(site) == "refused by the site's policy"
    assert "another threshold" in site.last["detail"]
    without_patients(site, tmp_path, 7)
    at(site, 31)
    found = parse_site_statistics(text_of(site.admitted(question(site))))
    assert found["threshold"] == 7


@pytest.mark.parametrize("policy", [EXACT, NOISY])
@pytest.mark.parametrize("damage", ["pipe", "link", "folder", "gone"])
def test_a_stored_answer_that_is_no_file_neither_blocks_nor_is_followed(
    make: Make, tmp_path: Path, policy: str, damage: str
) -> None:
    site = opened(make, policy)
    first = text_of(site.admitted(question(site)))
    stored = site.folder / "state" / "statistics.json"
    stored.unlink()
    if damage == "pipe":
        os.mkfifo(stored)
    elif damage == "link":
        (tmp_path / "elsewhere").write_text(first)
        stored.symlink_to(tmp_path / "elsewhere")
    elif damage == "folder":
        stored.mkdir()
    if policy == NOISY:
        assert refused(site) == "refused by the site's policy", "no second draw before the time"
    elif damage == "folder":
        assert refused(site) == "refused by the site's policy"
    else:
        assert text_of(site.admitted(question(site))) == first


def test_a_stored_answer_that_an_app_replaced_is_not_sent(make: Make, tmp_path: Path) -> None:
    """The app of a node without isolation can write in the state folder."""
    site = opened(make)
    first = text_of(site.admitted(question(site)))
    stored = site.folder / "state" / "statistics.json"
    forged = json.loads(first)
    forged["rule"] = "patient 17 has sepsis"
    stored.write_text(json.dumps(forged))
    assert text_of(site.admitted(question(site))) == first, "counted again: the same table"
    stored.write_text(json.dumps(forged))
    without_patients(site, tmp_path)
    site.reopened()
    assert refused(site) == "refused by the site's policy"


def test_noise_is_paid_before_it_leaves_and_refused_when_the_budget_is_spent(make: Make) -> None:
    site = opened(make, NOISY.replace("budget-epsilon = 12.0", "budget-epsilon = 0.7"))
    found = parse_site_statistics(text_of(site.admitted(question(site))))
    assert found["privacy"]["epsilon"] == 0.5
    counted = site.entries[-2]
    assert counted["privacy"]["sample-rate"] == 1.0
    assert counted["privacy"]["steps"] == 1
    at(site, 31)
    first = text_of(site.admitted(question(site)))
    assert parse_site_statistics(first) == found, "the same table: stored bytes"
    (site.folder / "state" / "statistics.json").unlink()
    at(site, 31)
    assert refused(site) == "refused by the site's policy: privacy"
    assert "of the budget" in site.last["detail"]


def test_a_spent_budget_does_not_tell_that_the_table_has_changed(
    make: Make, tmp_path: Path
) -> None:
    site = opened(make, NOISY.replace("budget-epsilon = 12.0", "budget-epsilon = 0.7"))
    first = text_of(site.admitted(question(site)))
    without_patients(site, tmp_path)
    at(site, 31)
    assert text_of(site.admitted(question(site))) == first


def test_noise_counts_with_training_and_training_with_noise(make: Make) -> None:
    site = opened(make, NOISY.replace("budget-epsilon = 12.0", "budget-epsilon = 0.7"))
    training = make(policy=NOISY.replace("budget-epsilon = 12.0", "budget-epsilon = 0.7")).config
    text_of(site.admitted(question(site)))
    site.config = training
    site.use(**{"privacy.noise-multiplier": 30.0, "privacy.sample-rate": 1.0})
    assert "privacy" in refused(site, site.ask("train"))
    assert "of the budget" in site.last["detail"]


def test_the_site_s_own_limit_covers_statistics(make: Make) -> None:
    site = opened(make, NOISY)
    object.__setattr__(site.site, "epsilon_limit", 0.3)
    assert refused(site) == "refused by the site's policy: privacy"


def test_exact_counts_spoil_a_later_limit_of_the_site(make: Make) -> None:
    """The app's ledger, which has the same limit, does not know what the node has sent."""
    site = opened(make)
    text_of(site.admitted(question(site)))
    other = make(policy=OPEN.replace(*MORE), **{"privacy.noise-multiplier": 3.0})
    site.config, site.folder = other.config, other.folder
    object.__setattr__(site.site, "epsilon_limit", 8.0)
    site.reopened()
    assert refused(site, site.ask("train")) == "refused by the site's policy: privacy"
    assert "was not private" in site.last["detail"]


def test_exact_counts_spoil_a_later_budget(make: Make) -> None:
    site = opened(make)
    text_of(site.admitted(question(site)))
    path = site.folder / "policy.toml"
    other = make(policy=NOISY)
    site.config, site.folder = other.config, other.folder
    path.write_text((other.folder / "policy.toml").read_text())
    site.reopened()
    assert refused(site, site.ask("train")) == "refused by the site's policy: privacy"
    assert "without privacy" in site.last["detail"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epsilon = 0.5\n", ""),
        ("least-count = 5", "least-count = 4"),
        ("per-days = 30", "per-days = 0"),
        ("epsilon = 0.5\n", "epsilon = 9.0\n"),
        ("epsilon = 0.5\n", "epsilon = 0.001\n"),
        ("epsilon = 0.5\n", "epsilon = 0.5\ndelta = 0.1\n"),
        ("per-days = 30", "bins = 3"),
    ],
)
def test_a_policy_that_would_let_more_out_is_no_policy(make: Make, old: str, new: str) -> None:
    site = opened(make, NOISY)
    path = site.folder / "policy.toml"
    head, _, rules = path.read_text().partition("[statistics]")
    assert old in rules
    path.write_text(head + "[statistics]" + rules.replace(old, new))
    assert refused(site) == "refused by the site's policy"
    assert site.last["reason"] == "policy"


@pytest.mark.parametrize("damage", ["absent", "no table", "folder", "changed"])
def test_a_table_that_cannot_be_read_is_not_told(
    make: Make, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = opened(make)
    whole = site.table
    site.table = tmp_path / "table.parquet"
    if damage == "no table":
        site.table.write_bytes(b"patient 17")
    elif damage == "folder":
        site.table.mkdir()
    elif damage == "changed":
        from client.node.statistics import table_file

        site.table.write_bytes(whole.read_bytes())
        digests = iter(["ab" * 32, "cd" * 32])
        monkeypatch.setattr(table_file, "file_sha256", lambda _: next(digests))
    site.reopened()
    assert refused(site) == "refused by the site's policy"
    assert site.last["reason"] == "table"


def test_daily_limits_and_small_sites_hold_for_statistics(make: Make) -> None:
    site = opened(make)
    for _ in range(6):
        text_of(site.admitted(question(site)))
    assert refused(site) == "refused by the site's policy"
    small = opened(make)
    object.__setattr__(small.site, "patients", 4)
    assert refused(small) == "refused by the site's policy"


def test_nothing_leaves_where_the_log_cannot_be_written(make: Make) -> None:
    site = opened(make)
    site.log.unlink(missing_ok=True)
    site.log.mkdir()
    with pytest.raises(AuditError):
        site.gate.admit(site.request(question(site)))


def test_a_refusal_s_code_is_the_same_for_every_cause(make: Make) -> None:
    site = opened(make, OPEN)
    answer = site.admitted(question(site))
    assert answer is not None
    assert answer.error.code == REFUSED
    assert deepcopy(answer.error.reason) == "refused by the site's policy: statistics"
