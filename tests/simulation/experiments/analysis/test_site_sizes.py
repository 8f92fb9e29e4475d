"""Groups of sites by size and the share that is better off, by numbers worked out by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.evaluation.bootstrap import LEAST_PATIENTS
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.site_sizes import group_by_size
from simulation.experiments.analysis.sites_better_off import better_off
from simulation.experiments.models.registry import FEDERATED, LOCAL, ZERO_SHOT
from simulation.experiments.output.csv import result_rows
from simulation.experiments.output.fairness import fairness_section, fairness_warnings
from simulation.experiments.output.markdown import markdown_table
from simulation.experiments.studies.comparison import summarise_comparison
from tests.samples.experiments import analysis

BANDS = {"sites with 1 training patient": ("a", "b"), "sites with 5 training patients": ("c", "d")}


def small_sites(*federated: float) -> Analysis:
    """Four sites of three test patients, zero-shot's error 10 and the site's own 9."""
    return analysis_of({site: [[error] * 3] for site, error in zip("abcd", federated, strict=True)})


def analysis_of(federated: dict[str, list[list[float]]]) -> Analysis:
    def everywhere(error: float) -> dict[str, list[list[float]]]:
        return {site: [[error] * 3] for site in federated}

    return analysis(
        bands=BANDS,
        copies=1,
        federated=federated,
        zero_shot=everywhere(10.0),
        local=everywhere(9.0),
        centralised=everywhere(7.0),
    )


def test_sites_are_grouped_by_training_patients() -> None:
    sizes = {"a": 9, "b": 1, "c": 2, "d": 2, "e": 5, "f": 1_200}
    assert group_by_size(sizes) == {
        "sites with 1 to 2 training patients": ("b", "c", "d"),
        "sites with 5 training patients": ("e",),
        "sites with 9 to 1,200 training patients": ("a", "f"),
    }
    assert group_by_size({"a": 1, "b": 1}) == {"sites with 1 training patient": ("a", "b")}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
def test_every_site_is_in_one_group_and_the_groups_are_ordered(sizes: list[int]) -> None:
    named = {f"site-{number}": size for number, size in enumerate(sizes)}
    groups = list(group_by_size(named).values())
    assert sorted(site for group in groups for site in group) == sorted(named)
    assert len(groups) <= 3
    for smaller, larger in pairwise(groups):
        assert max(named[site] for site in smaller) < min(named[site] for site in larger)


def test_the_share_counts_estimates_below_the_reference() -> None:
    found = small_sites(8.0, 9.5, 8.9, 9.0)
    alone = better_off(found, FEDERATED, LOCAL, found.sites)
    assert (alone.better, alone.sites) == (2, 4)  # equal at d, which is not better
    # Wilson's interval of 2 of 4 has its centre at a half.
    z = 1.959964
    half = z * np.sqrt((4 + z**2) / 4) / (4 + z**2)
    assert alone.share.estimate == 0.5
    assert (alone.share.low, alone.share.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
    assert better_off(found, FEDERATED, ZERO_SHOT, ["a", "b"]).better == 2


def test_a_group_pools_the_patients_of_its_sites() -> None:
    found = small_sites(8.0, 9.5, 8.9, 9.0)
    assert found.sites == ["a", "b", "c", "d"]
    small, large = BANDS
    pooled = found.difference(FEDERATED, ZERO_SHOT, "wql", scope=small)
    assert pooled.estimate == pytest.approx((8.0 + 9.5) / 2 / 10 - 1)
    assert np.isnan(pooled.low)  # six patients
    assert found.difference(FEDERATED, LOCAL, "wql", scope=large).estimate == pytest.approx(
        (8.9 + 9.0) / 2 / 9 - 1
    )


def test_small_sites_are_counted_and_not_named() -> None:
    found = small_sites(8.0, 12.0, 8.9, 9.0)
    assert found.comparable_sites == []
    assert fairness_warnings(found) == []
    summary = summarise_comparison(found)
    assert f"No site has {LEAST_PATIENTS} test patients" in summary.headline
    (figure,) = summary.figures
    assert "group of sites" in figure[1].title
    assert any(
        text.replace("\N{NO-BREAK SPACE}", " ").startswith("At 2 of 4 sites (50 % [15, 85])")
        for text in summary.findings
    )
    (part,) = fairness_section(found).parts
    assert [row.label for row in part.tables[1].rows] == ["all sites", *BANDS]


def test_tables_show_the_groups_and_the_csv_every_site() -> None:
    found = small_sites(8.0, 9.5, 8.9, 9.0)
    text = markdown_table(found, [], "again")
    assert "sites with 1 training patient, 6 patients" in text
    assert "| a, " not in text
    rows = list(result_rows(found))
    assert {row["site"] for row in rows} == {"all", "", "a", "b", "c", "d"}
    assert {row.get("group") for row in rows if row["site"] == ""} == set(BANDS)
