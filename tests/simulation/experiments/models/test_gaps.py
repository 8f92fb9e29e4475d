from __future__ import annotations

import numpy as np

from simulation.experiments.models.statistical import from_first_observed, without_gaps

NAN = np.nan


def test_gaps_are_filled_by_straight_lines_and_the_ends_by_what_is_nearest() -> None:
    context = np.array([NAN, 10.0, NAN, NAN, 16.0, NAN], np.float32)
    np.testing.assert_allclose(without_gaps(context), [10, 10, 12, 14, 16, 16])
    np.testing.assert_allclose(from_first_observed(context), [10, 12, 14, 16, 16])


def test_what_has_no_gap_stays_as_it_is() -> None:
    context = np.array([3.0, 1.0, 2.0], np.float32)
    np.testing.assert_array_equal(without_gaps(context), context)
