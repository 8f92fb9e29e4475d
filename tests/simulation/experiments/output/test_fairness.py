"""Sites and groups named in warnings, by numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from common.reporting.phrasing import MINUS
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.subgroups import Groups
from simulation.experiments.models.registry import LOCAL, ZERO_SHOT
from simulation.experiments.output.fairness import fairness_section, harmed, uncertain
from simulation.experiments.studies.comparison import summarise_comparison
from tests.samples.experiments import analysis, two_sites

NAME = "patients aged 80+"


def with_two_old_patients(*federated: float) -> Analysis:
    """One site; the federated model's errors for its two old patients, zero-shot's being 10."""
    groups = Groups({NAME: {"a": np.array([False, False, True, True])}}, ["male patients"])
    return analysis(
        groups,
        zero_shot={"a": [[10.0, 10.0, 10.0, 10.0]]},
        local={"a": [[9.0, 9.0, 10.0, 10.0]]},
        federated={"a": [[5.0, 5.0, *federated]]},
        centralised={"a": [[5.0, 5.0, 7.0, 7.0]]},
    )


def test_a_site_that_is_better_off_alone_is_named_in_a_warning() -> None:
    found = two_sites(federated=9.0, local=9.2, centralised=9.0, at_b=1.05)  # 9.45 at b
    assert harmed(found, found.sites, LOCAL) == ["b"]
    assert harmed(found, found.sites, ZERO_SHOT) == []
    (warning,) = summarise_comparison(found).warnings
    assert "At b the global adapter is worse than the one that the site trains alone" in warning


def test_a_site_whose_interval_includes_zero_is_not_called_worse() -> None:
    found = analysis(
        zero_shot={"a": [[10.0, 10.0, 10.0]]},
        local={"a": [[9.0, 9.0, 9.0]]},
        federated={"a": [[8.0, 8.0, 11.5]]},
        centralised={"a": [[8.0, 8.0, 8.0]]},
    )
    assert harmed(found, found.sites, LOCAL) == []
    assert uncertain(found, found.sites, LOCAL) == ["a"]
    (warning,) = summarise_comparison(found).warnings
    assert "with an interval that includes zero" in warning


def test_a_group_is_compared_on_its_own_patients() -> None:
    found = with_two_old_patients(8.0, 8.0)
    assert found.sites == ["a"]
    gain = found.difference("LoRA, federated", ZERO_SHOT, "wql", scope=NAME)
    assert gain.estimate == pytest.approx(-0.2)
    assert summarise_comparison(found).warnings == []
    (part,) = fairness_section(found).parts
    groups = part.tables[1].rows
    assert [row.label for row in groups] == ["patients aged 80+ (20)"]
    assert f"{MINUS}20.00" in str(groups[0].cells[0])
    assert "Not compared, with fewer than 10 test patients: male patients." in part.paragraphs


def test_a_group_that_loses_is_named_in_a_warning() -> None:
    found = with_two_old_patients(11.0, 12.0)
    assert [
        warning.replace("\N{NO-BREAK SPACE}", " ")
        for warning in summarise_comparison(found).warnings
    ] == [
        f"For {NAME} the global adapter is worse than {reference}."
        for reference in (LOCAL, ZERO_SHOT)
    ]


def test_a_cohort_that_tells_no_groups_says_so() -> None:
    found = two_sites(federated=9.0, local=9.5, centralised=9.0)
    (part,) = fairness_section(found).parts
    assert len(part.tables) == 1
    (paragraph,) = part.paragraphs
    assert "the cohort's folder has no patients.parquet" in paragraph
