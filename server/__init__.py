"""The coordinator's side: rounds, aggregation, release and report.

Begin with `server_app`, then `rounds.federation`.
Imports `common` only.
"""

from __future__ import annotations

import gc

# Here, since Flower starts the app's processes and this is what they import first. torch and
# transformers make half a million objects that live until the end: frequent collections look at all
# of them again and again, a quarter of the time that a process takes to start.
gc.set_threshold(50_000, 20, 20)
