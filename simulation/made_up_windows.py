"""Random-walk windows in the range of vital signs, for timing models without data."""

from __future__ import annotations

import numpy as np

from common.backbones.base import offset_and_scale
from common.config.run_config import WindowConfig
from common.data.vitals import VITALS
from common.data.windows import Windows


def made_up_windows(count: int) -> Windows:
    """Return random walks of the default lengths, one patient each; always the same ones."""
    random = np.random.default_rng(0)
    settings = WindowConfig()
    vital = random.integers(0, len(VITALS), count)
    centre, floor = (values[:, None] for values in offset_and_scale(vital))
    steps = random.normal(size=(count, settings.context + settings.horizon)).cumsum(axis=1)
    values = (centre + floor * steps).astype(np.float32)
    return Windows(
        context=values[:, : settings.context],
        target=values[:, settings.context :],
        vital=vital.astype(np.int64),
        patient=np.arange(count, dtype=np.int64),
        patient_ids=tuple(map(str, range(count))),
    )
