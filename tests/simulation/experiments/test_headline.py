"""The headline against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.experiments.analysis import Analysis
from simulation.experiments.comparison import show
from simulation.experiments.headline import (
    harmed_sites,
    headline_of,
    share_kept,
    uncertain_sites,
)
from simulation.experiments.methods import METHODS
from tests.experiment_samples import analysis

LOCAL = METHODS["local"].label
ZERO_SHOT = METHODS["zero-shot"].label


def two_sites(*, federated: float, local: float, centralised: float, at_b: float = 1.0) -> Analysis:
    """Four patients a site, all alike; zero-shot's error is 10, site b's federated one scaled."""
    alike = [1.0] * 4

    def everywhere(error: float, share: float = 1.0) -> dict[str, list[list[float]]]:
        return {"a": [[error * x for x in alike]], "b": [[error * share * x for x in alike]]}

    return analysis(
        zero_shot=everywhere(10.0),
        local=everywhere(local),
        federated=everywhere(federated, at_b),
        centralised=everywhere(centralised),
    )


def test_the_share_is_the_federated_gain_over_the_pooled_one() -> None:
    # Gains 8 % and 10 %: eight tenths are kept.
    headline = headline_of(two_sites(federated=9.2, local=9.5, centralised=9.0))
    assert headline.share is not None
    assert headline.share.estimate == pytest.approx(0.8)
    assert headline.share.low == pytest.approx(0.8)
    assert headline.share.high == pytest.approx(0.8)


def test_gains_are_computed_within_a_seed_and_then_averaged() -> None:
    found = analysis(
        zero_shot={"a": [[10.0, 30.0]]},
        local={"a": [[10.0, 30.0]]},
        federated={"a": [[9.0, 27.0], [8.0, 24.0]]},  # gains 10 % and 20 %
        centralised={"a": [[8.0, 24.0], [6.0, 18.0]]},  # gains 20 % and 40 %
    )
    headline = headline_of(found)
    assert headline.share is not None
    assert headline.share.estimate == pytest.approx(0.15 / 0.30)
    assert headline.share_by_seed == pytest.approx([0.10 / 0.20, 0.20 / 0.40])
    assert headline.worst_gain.estimate == pytest.approx(0.15)


def test_the_worst_site_is_the_one_that_gains_least() -> None:
    headline = headline_of(two_sites(federated=9.0, local=9.5, centralised=9.0, at_b=1.05))
    assert headline.worst_site == "b"
    assert headline.worst_gain.estimate == pytest.approx(1 - 0.945)


def test_no_share_is_stated_of_a_gain_that_may_be_none() -> None:
    certain = np.array([0.1, 0.08, 0.12])
    assert share_kept(certain, np.array([0.1, -0.02, 0.2])) is None
    kept = share_kept(np.array([0.05, 0.04, 0.06]), certain)
    assert kept is not None
    assert kept.estimate == pytest.approx(0.5)


def test_a_site_that_is_better_off_alone_is_named_in_a_warning() -> None:
    found = two_sites(federated=9.0, local=9.2, centralised=9.0, at_b=1.05)  # 9.45 at b
    assert harmed_sites(found, LOCAL) == ["b"]
    assert harmed_sites(found, ZERO_SHOT) == []
    (warning,) = show(found).warnings
    assert "At b the global adapter is worse than the one that the site trains alone" in warning


def test_a_site_whose_interval_includes_zero_is_not_called_worse() -> None:
    found = analysis(
        zero_shot={"a": [[10.0, 10.0, 10.0]]},
        local={"a": [[9.0, 9.0, 9.0]]},
        federated={"a": [[8.0, 8.0, 11.5]]},
        centralised={"a": [[8.0, 8.0, 8.0]]},
    )
    assert harmed_sites(found, LOCAL) == []
    assert uncertain_sites(found, LOCAL) == ["a"]
    (warning,) = show(found).warnings
    assert "with an interval that includes zero" in warning


def test_the_sentence_says_when_nothing_can_be_said() -> None:
    found = analysis(
        zero_shot={"a": [[10.0, 10.0]]},
        local={"a": [[10.0, 10.0]]},
        federated={"a": [[9.0, 11.0]]},
        centralised={"a": [[8.0, 12.5]]},
    )
    assert "not clearly above zero" in show(found).headline
