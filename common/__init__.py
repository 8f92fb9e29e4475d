"""Code that client and server share; imports nothing else of fedvitals.

Begin with `adapter` (what is exchanged), `data` (what is trained on), `config` (the settings).
`backbones` has the models, `evaluation` the metrics, `forecasting` the forecasts of patients,
`reporting` the parts of a report.
"""

from __future__ import annotations

import gc

# Every command, and every process that Flower starts, imports this first. torch, transformers and
# Flower make half a million objects that live until the end: frequent collections look at all of
# them again and again, up to a third of the time that a command takes.
gc.set_threshold(50_000, 20, 20)
