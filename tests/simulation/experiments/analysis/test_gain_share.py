"""The headline against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from simulation.experiments.analysis.gain_share import measure_gain_share, share_kept
from simulation.experiments.studies.comparison import summarise_comparison
from tests.samples.experiments import analysis, two_sites


def test_the_share_is_the_federated_gain_over_the_pooled_one() -> None:
    # Gains 8 % and 10 %: eight tenths are kept.
    headline = measure_gain_share(two_sites(federated=9.2, local=9.5, centralised=9.0))
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
    headline = measure_gain_share(found)
    assert headline.share is not None
    assert headline.share.estimate == pytest.approx(0.15 / 0.30)
    assert headline.share_by_seed == pytest.approx([0.10 / 0.20, 0.20 / 0.40])
    assert headline.worst_gain is not None
    assert headline.worst_gain.estimate == pytest.approx(0.15)


def test_the_worst_site_is_the_one_that_gains_least() -> None:
    headline = measure_gain_share(two_sites(federated=9.0, local=9.5, centralised=9.0, at_b=1.05))
    assert headline.worst_site == "b"
    assert headline.worst_gain is not None
    assert headline.worst_gain.estimate == pytest.approx(1 - 0.945)


def test_no_share_is_stated_of_a_gain_that_may_be_none() -> None:
    certain = np.array([0.1, 0.08, 0.12])
    assert share_kept(certain, np.array([0.1, -0.02, 0.2])) is None
    kept = share_kept(np.array([0.05, 0.04, 0.06]), certain)
    assert kept is not None
    assert kept.estimate == pytest.approx(0.5)


def test_the_sentence_says_when_nothing_can_be_said() -> None:
    found = analysis(
        zero_shot={"a": [[10.0, 10.0]]},
        local={"a": [[10.0, 10.0]]},
        federated={"a": [[9.0, 11.0]]},
        centralised={"a": [[8.0, 12.5]]},
    )
    assert "not clearly above zero" in summarise_comparison(found).headline
