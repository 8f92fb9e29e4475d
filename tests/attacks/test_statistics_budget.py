"""Attacks on what statistics cost, and on what they reveal by a refusal."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from client.policy.refusal import REFUSED
from common.data.statistics.reply import parse_site_statistics
from common.errors import AuditError
from tests.attacks.statistics_site import (
    MORE,
    NOISY,
    at,
    opened,
    question,
    refused,
    text_of,
    without_patients,
)
from tests.client.egress.gated_site import OPEN, Make


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
