"""Attacks on the statistics by repetition: differences of tables, thresholds and stored replies."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.data.statistics.reply import parse_site_statistics
from tests.attacks.statistics_site import (
    EXACT,
    NOISY,
    at,
    opened,
    question,
    refused,
    text_of,
    without_patients,
)
from tests.client.egress.gated_site import Make


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
