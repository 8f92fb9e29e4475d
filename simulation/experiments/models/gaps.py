"""Series without gaps, for models that know none."""

from __future__ import annotations

import numpy as np

from common.data.windows import FloatArray


def without_gaps(context: FloatArray) -> FloatArray:
    """Return a context [C] with straight lines where nothing was measured.

    Before the first and after the last observed value, which has to exist, stands that value.
    """
    observed = np.flatnonzero(~np.isnan(context))
    steps = np.arange(len(context))
    return np.interp(steps, observed, context[observed]).astype(np.float32)


def from_first_observed(context: FloatArray) -> FloatArray:
    """Return the same from the first observed value on."""
    return without_gaps(context)[np.flatnonzero(~np.isnan(context))[0] :]
